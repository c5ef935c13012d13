"""The command line as a whole: help, errors, exit codes, and what it costs."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from riseml.__main__ import ELSEWHERE, main
from riseml.commands import COMMANDS
from riseml_proto import VERSION

RISEML = [sys.executable, "-m", "riseml"]


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_version_needs_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--host", "unix:///none", "--version") == 0
    assert capsys.readouterr().out == f"riseml {VERSION}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["-h"], ["help"]):
        assert run(*argv) == 0
        text = capsys.readouterr().out
        for command in COMMANDS:
            assert f"  {command.name:<11} {command.summary}\n" in text
        assert max(map(len, text.splitlines())) <= 80
        assert "`" not in text
    assert run() == 2


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_has_help_of_its_own(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: riseml {command} ")
    assert "--host URL" in text
    assert "`" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert run("help", command) == 0
    assert capsys.readouterr().out == text
    assert run(command, "-h") == 0
    short, _, _ = capsys.readouterr().out.partition(f"\nriseml {command} --help tells more.")
    assert text.startswith(short)
    assert len(short.splitlines()) <= 40


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["stauts"], "there is no command 'stauts'; did you mean riseml status?"),
        (["xyz"], "there is no command 'xyz'; riseml --help lists them"),
        (["__init__"], "there is no command '__init__'"),
        (["--hsot", "x"], "--hsot cannot stand here; riseml --help tells what can"),
        (["status", "--foo"], "unrecognized arguments: --foo; riseml status --help tells"),
        (["system", "dance"], "invalid choice: 'dance'"),
        (["--host", "box", "status"], "'box' is no daemon's address"),
        (["--host", "ssh://-oProxyCommand=x", "status"], "'-oProxyCommand=x' is no name of a host"),
        (["--host=unix:///none", "whoami"], "there is no daemon at /none"),
        (["whoami", "--host", "unix:///none"], "there is no daemon at /none"),
        (["train", "--json"], "--json goes with --detach or --dry-run"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    argv: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("riseml: ")
    assert error in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_named_as_it_was_typed(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.scripts = [lambda connection: None]
    assert run("cp", "--host", f"unix://{daemon.path}", "no-file", "data://") == 2
    assert capsys.readouterr().err == "riseml: no-file: No such file or directory\n"


def test_whoami(daemon: Any, capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"user": "paul", "uid": 1000, "host": "box"}'
    daemon.scripts = [daemon.answers(body)]
    host = f"unix://{daemon.path}"
    assert run("whoami", "--host", host) == 0
    assert run("whoami", "--host", host, "--json") == 0
    assert capsys.readouterr().out == (
        'paul (uid 1000) on box\n{\n  "user": "paul",\n  "uid": 1000,\n  "host": "box"\n}\n'
    )


SYSTEM = b"""{"hostname": "box", "version": "0.1.0", "api_version": 2, "pid": 7, "runner": "auto",
"isolation": "cgroup", "cpus": {"total": 16, "used": 2.5}, "memory": {"total": 65536, "used": 4096},
"gpus": [{"index": 0, "uuid": "GPU-1", "name": "NVIDIA H100", "memory": 81920, "driver": "550.54",
"serial": "165", "bus_id": "0000:18:00.0", "used_by": "144.2", "user": "paul"},
{"index": 1, "uuid": null, "name": null, "memory": null, "driver": null, "serial": null,
"bus_id": null, "used_by": null}], "state_dir": "/s", "output_dir": "/o", "data_dir": "/d",
"max_files": 100000, "max_bytes": 1073741824}"""


def test_system_info(daemon: Any, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.scripts = [daemon.answers(SYSTEM)]
    info = ["--host", f"unix://{daemon.path}", "system", "info"]
    run(*info)
    assert capsys.readouterr().out == (
        "NODE  CPU    MEM          GPU GPU MEM\n"
        "box   2.5/16 4.0/64.0 GiB 1/2 80.0/80.0 GiB\n"
        "TOTAL 2.5/16 4.0/64.0 GiB 1/2 80.0/80.0 GiB\n"
    )
    run(*info, "-g")
    assert capsys.readouterr().out == (
        "GPU NAME        MEM      DRIVER SERIAL BUS ID       USED BY    STATE\n"
        "0   NVIDIA H100 80.0 GiB 550.54 165    0000:18:00.0 144.2 paul in use\n"
        "1   -           -        -      -      -            -          free\n"
    )
    run(*info, "-l")
    assert "Largest project: 100,000 files, 1,024 MiB\n" in capsys.readouterr().out


def test_ctrl_c_is_130_without_a_word(daemon: Any) -> None:
    pids: list[int] = []

    def interrupt(connection: Any) -> None:
        daemon.receive(connection)
        os.kill(pids[0], signal.SIGINT)
        connection.recv(1)

    daemon.scripts = [interrupt]
    command = [*RISEML, "--host", f"unix://{daemon.path}", "logs", "-f", "144"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        pids.append(process.pid)
        _, text = process.communicate(timeout=20)
    assert (process.returncode, text) == (130, "")


def test_a_reader_that_has_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*RISEML, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_under_the_output_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*RISEML, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (2, b"riseml: No space left on device\n")


def test_status_imports_nothing_costly(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(b"[]")]
    code = (
        "import sys\nfrom riseml.__main__ import main\n"
        f"try:\n    main(['--host', 'unix://{daemon.path}', 'status'])\n"
        "except SystemExit:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    costly = {"asyncio", "hashlib", "httpx", "json", "pathspec", "rich", "rised", "trio", "yaml"}
    assert not costly & set(done.stdout.split())


def test_a_closed_output_is_no_error() -> None:
    for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'"$@" {closed}', "sh", *RISEML, "--help"],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")


PRINTING = [
    ["--help"],
    ["--version"],
    *([command.name, option] for command in COMMANDS for option in ("--help", "-h")),
    *(["completion", shell] for shell in ("bash", "zsh", "fish")),
]


def test_whatever_prints_says_in_one_line_that_it_cannot() -> None:
    with open("/dev/full", "w") as full:
        running = [
            (
                argv,
                subprocess.Popen([*RISEML, *argv], stdout=full, stderr=subprocess.PIPE, text=True),
            )
            for argv in PRINTING
        ]
        for argv, process in running:
            _, told = process.communicate()
            assert process.returncode == 2, argv
            assert told.startswith("riseml: "), argv
            assert told.endswith("No space left on device\n"), argv
            assert told.count("\n") == 1, argv


def test_where_nobody_can_be_told_there_is_the_exit_code() -> None:
    with open("/dev/full", "w") as full:
        for argv in (["--help"], ["nonsense"], ["status", "a b"]):
            assert (
                subprocess.run([*RISEML, *argv], stdout=full, stderr=full, check=False).returncode
                == 2
            )


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ps", "status"), ("stop", "kill"), ("cancel", "kill"), ("top", "monitor"), ("rerun", "train"),
        ("describe", "status"), ("PS", "status"), ("submit", "train"), ("log", "logs"),
    ],
)  # fmt: skip
def test_what_other_tools_call_it_is_pointed_to_the_command(
    name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "144") == 2
    assert capsys.readouterr().err == (
        f"riseml: there is no command {name!r}; riseml has {command} for that: riseml {command} --help\n"
    )


def test_every_synonym_points_to_a_command() -> None:
    known = {command.name for command in COMMANDS}
    assert set(ELSEWHERE.values()) <= known
    assert not known & set(ELSEWHERE)
