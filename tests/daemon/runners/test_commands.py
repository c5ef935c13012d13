"""Which shell runs a command, asked of real shells."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from rised.runners.commands import script
from rised.runners.shell import write_scripts
from rised.users.owner import own


@pytest.fixture(scope="module")
def without_bash(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment whose PATH has a plain sh, and no bash."""
    place = tmp_path_factory.mktemp("bin")
    for name in ("sh", "cat", "echo", "true", "false", "sleep"):
        found = shutil.which(name)
        assert found
        (place / name).symlink_to(found)
    return {"PATH": str(place)}


def run(
    command: str, place: Path, shell: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The code and the output of `command`, evaluated as a job's is."""
    texts = write_scripts([command], shell, str(place / "run."), own())
    done = subprocess.run(
        ["/bin/sh", "-c", 'for text; do (set --; eval "$text"); done', "sh", *texts],
        env={**os.environ, **env} if env else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=place,
    )
    return done.returncode, done.stdout


FAILING = ["false\necho no", "false | cat", "cat </nowhere | cat\necho no", "(exit 3); echo no"]


@pytest.mark.parametrize("command", FAILING)
def test_a_script_fails_with_its_first_failing_command_and_a_pipe_with_any_part(
    command: str, tmp_path: Path
) -> None:
    code, output = run(command, tmp_path)
    assert code != 0
    assert "no\n" not in output


@pytest.mark.parametrize("command", ["false\necho no", "(exit 3); echo no"])
def test_a_plain_sh_stops_at_the_first_failing_command_too(
    command: str, tmp_path: Path, without_bash: Mapping[str, str]
) -> None:
    code, output = run(command, tmp_path, env=without_bash)
    assert code != 0
    assert "no\n" not in output


def test_a_plain_sh_fails_with_a_pipe_or_says_that_it_does_not(
    tmp_path: Path, without_bash: Mapping[str, str]
) -> None:
    code, output = run("false | cat", tmp_path, env=without_bash)
    assert code != 0 or output == (
        "rised: there is no bash, only a plain sh, which does not see that a part of a pipe fails;"
        " a first line #!… or train.shell names another shell\n"
    )


def test_what_is_allowed_to_fail_does_not_end_a_script(tmp_path: Path) -> None:
    text = "false || true\nif false; then echo no; fi\n! false\necho end"
    assert run(text, tmp_path) == (0, "end\n")


def test_bash_reads_what_is_bashs(tmp_path: Path) -> None:
    text = "layers=(64 128)\n[[ ${layers[1]} == 128 ]] && echo ok {1..3}"
    assert run(text, tmp_path) == (0, "ok 1 2 3\n")


@pytest.mark.parametrize(
    ("first", "rest", "output"),
    [
        ("#!/bin/bash", "set -eo pipefail\na=(64 128)\necho ${a[1]}", "128\n"),
        ("#!/usr/bin/env python3", "import sys\nprint(sys.argv[1:])", "[]\n"),
        ("#!/bin/sh -x", "true", "+ true\n"),
        ("#! /bin/sh", "echo $#", "0\n"),
        ("#!", "echo plain", "plain\n"),
        ("#!/usr/bin/env -S python3 -I", "print(1)", "1\n"),
    ],
)
def test_the_first_line_names_the_interpreter(
    first: str, rest: str, output: str, tmp_path: Path
) -> None:
    assert run(f"{first}\n{rest}\n", tmp_path) == (0, output)


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, output = run("#!/nowhere/perl6\n1", tmp_path)
    assert code == 127
    assert "/nowhere/perl6" in output
    assert "riseml:" not in output


@pytest.mark.parametrize(
    ("words", "command", "code", "output"),
    [
        (("bash",), "false | cat; echo no", 1, ""),
        (("sh",), "false; echo no", 1, ""),
        (("bash", "-u"), "echo $nothing_has_this; echo no", 127, None),
        (("bash", "-x"), "false; echo yes", 0, None),
        (("python3",), "import sys; print(sys.argv); sys.exit(4)", 4, "['-c', 'python3']\n"),
    ],
)
def test_train_shell_names_another(
    words: tuple[str, ...], command: str, code: int, output: str | None, tmp_path: Path
) -> None:
    got = run(command, tmp_path, words)
    assert got[0] == code
    assert output is None or got[1] == output


@pytest.mark.parametrize(
    "command", ["nowhere-is-this 1", "if", "echo ${", "(", "kill %1", "true |"]
)
def test_no_message_of_a_shell_begins_with_our_name(command: str, tmp_path: Path) -> None:
    code, output = run(command, tmp_path)
    assert code != 0
    assert not output.startswith(("riseml", "rised"))


@pytest.mark.parametrize(
    ("command", "is_plain"),
    [
        ("python3 train.py --lr=0.1", True),
        ("exec python3 train.py", True),
        ("CUDA_LAUNCH_BLOCKING=1 python3 train.py --name 'a b'", True),
        ("exec -a name sleep 1", False),
        ("echo -e x", False),
        ("cd x", False),
        ("a && b", False),
        ("a | b", False),
        ("python3 {1,2}", False),
        ("python3 *.py", False),
        ("python3 ~/x", False),
        ("python3 $X", False),
        ("python3 'a\nb'", False),
        ("a\nb", False),
        ("a # b", False),
        ("! a", False),
        ("[[ a ]]", False),
        ("source x", False),
        (". x", False),
        ("x()", False),
    ],
)
def test_only_what_every_shell_understands_alike_is_run_without_a_second_one(
    command: str, is_plain: bool
) -> None:
    assert (script(command, (), "/x").text == command) is is_plain


def test_the_file_of_a_script_is_its_owners_alone_and_as_it_was_written(tmp_path: Path) -> None:
    text = "#!/bin/sh\necho 'ü' \\n\r\n"
    write_scripts(["true", text], (), str(tmp_path / "run."), own())
    assert [file.name for file in tmp_path.iterdir()] == ["run.1"]
    assert (tmp_path / "run.1").read_bytes() == text.encode()
    assert (tmp_path / "run.1").stat().st_mode & 0o777 == 0o700
