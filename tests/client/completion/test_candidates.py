"""What a shell is told of an unfinished command line."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import need
from hypothesis import given
from hypothesis import strategies as st

from riseml.__main__ import main
from riseml.commands import COMMANDS
from riseml.completion.candidates import FILES, Candidate, candidates
from riseml.completion.scripts import SCRIPTS

NAMES = [command.name for command in COMMANDS]
LIST = b"""[
{"id": "143", "type": "Experiment", "state": "FINISHED", "project": "toaster", "user": "paul",
"revision": "4e", "created_at": "2017-08-30T09:59:06Z", "counts": {}},
{"id": "144", "type": "Set", "state": "RUNNING", "project": "ai\\ttoaster", "user": "paul",
"revision": "4e", "created_at": "2017-08-30T09:59:06Z", "counts": {}}]"""


class Fixed:
    """Answers that tell what was asked."""

    def ids(self, command: str, host: str | None, typed: str) -> Iterator[Candidate]:
        yield Candidate("144", f"{command} {host} {typed}")

    def names(self, host: str | None, experiment: str, *, params: bool) -> Iterator[Candidate]:
        yield Candidate(f"loss-of-{experiment}")
        if params:
            yield Candidate("lr")

    def files(self, host: str | None, typed: str) -> Iterator[Candidate]:
        yield Candidate(f"{typed}model.pt", str(host))


def words(*typed: str) -> list[str]:
    return [one.word for one in candidates(typed, Fixed())]


def test_commands_come_first() -> None:
    assert words("") == NAMES
    assert words("st") == ["status"]
    assert words("help", "lo") == ["logs"]
    assert words("--") == ["--host", "--help", "--version"]
    assert words("--host", "ssh://box", "tr") == ["train"]
    assert words("nonsense", "") == words("pipe", "") == words("complete", "") == []


def test_hidden_commands_stay_hidden() -> None:
    assert not {"pipe", "complete"} & {*words("")}


@pytest.mark.parametrize("command", NAMES)
def test_every_option_is_offered_with_its_help(command: str) -> None:
    offers = candidates([command, "--"], Fixed())
    assert "--host" in [one.word for one in offers]
    assert all(one.word.startswith("--") and one.help for one in offers)
    everything = words(command, "-")
    assert {one.word for one in offers} < {*everything}
    assert "-h" in everything


def test_an_option_that_was_given_is_not_offered_again() -> None:
    assert "--all" in words("status", "--")
    assert "--all" not in words("status", "-a", "--")


def test_ids_are_offered_where_they_may_stand() -> None:
    assert words("logs", "") == words("logs", "-f", "14") == ["144"]
    assert words("logs", "144", "") == []
    assert words("kill", "143", "") == ["144"]
    assert words("logs", "-n", "") == words("status", "--sort", "") == []
    assert words("logs", "9") == []
    (offer,) = candidates(["--host", "ssh://a", "logs", "1"], Fixed())
    assert offer.help == "logs ssh://a 1"
    (offer,) = candidates(["logs", "--host", "ssh://b", "1"], Fixed())
    assert offer.help == "logs ssh://b 1"


def test_results_and_parameters_are_offered_to_sort_by() -> None:
    assert words("status", "144", "--sort", "") == ["loss-of-144", "lr"]
    assert words("status", "144", "--sort=lo") == ["--sort=loss-of-144"]
    assert words("best", "7", "--by", "") == ["loss-of-7"]
    assert words("status", "--sort", "") == []


def test_places_of_the_daemon_and_files_here_are_offered_where_they_may_stand() -> None:
    assert words("ls", "") == words("rm", "-r", "") == ["output://", "data://"]
    assert words("ls", "out") == ["output://"]
    assert words("ls", "output://7/") == ["output://7/model.pt"]
    assert words("cp", "") == ["output://", "data://", FILES]
    assert words("cp", "x", "data://a/") == ["data://a/model.pt"]
    (offer,) = candidates(["--host", "ssh://a", "ls", "data://"], Fixed())
    assert offer.help == "ssh://a"


def test_choices_and_files_are_offered_where_they_may_stand() -> None:
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert "info" in words("system", "")
    assert words("train", "-f", "") == words("train", "--file", "x") == [FILES]


@given(st.lists(st.sampled_from(["", "-", "--", "--host", "=", "logs", "help", "144", "-f", "\0"])))
def test_no_line_however_odd_is_an_error(typed: list[str]) -> None:
    for one in candidates(typed, Fixed()):
        assert one.word.startswith((typed[-1], FILES))


def test_the_daemon_tells_ids_the_newest_first(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    host = f"unix://{daemon.path}"
    daemon.scripts = [daemon.answers(LIST)]
    for command, expected in (
        ("status", "144\tai toaster RUNNING\n143\ttoaster FINISHED\n"),
        ("kill", "144\tai toaster RUNNING\n"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(["complete", "--", "--host", host, command, ""])
        assert capsys.readouterr().out == expected
    assert {request.target for request in daemon.requests} == {"/v1/experiments?all=true"}


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", None])
def test_a_daemon_that_does_not_answer_well_or_soon_is_not_waited_for(
    daemon: Any, answer: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(connection: Any) -> None:
        daemon.receive(connection)
        connection.recv(1)

    daemon.scripts = [silent if answer is None else daemon.says(answer)]
    with pytest.raises(SystemExit, match="0"):
        main(["complete", "--", "logs", "--host", f"unix://{daemon.path}", ""])
    assert capsys.readouterr() == ("", "")


def test_no_daemon_is_started_and_nothing_is_said(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    for host in ("", "nonsense", "unix:///none", "ssh://-oProxyCommand=x", "ssh://nowhere.invalid"):
        done = subprocess.run(
            [sys.executable, "-m", "riseml", "complete", "--", "kill", ""],
            env={**env, "RISEML_HOST": host},
            capture_output=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (b"", b"") or not host
    assert not (tmp_path / "state").exists()


class Shell:
    """An interactive shell, in which `riseml complete` is a fake that `answers` and writes down what it was asked."""

    def __init__(self, directory: Path, name: str, answers: str) -> None:
        self.asked = directory / "asked"
        fake = directory / "bin" / "riseml"
        fake.parent.mkdir()
        fake.write_text(
            f"#!/bin/sh\nshift 2\nprintf '<%s>' \"$@\" >> {self.asked}\nprintf '%b' '{answers}'\n"
        )
        fake.chmod(0o755)
        script = directory / "script"
        script.write_text(SCRIPTS[name])
        start = {
            "bash": f"source {script}\nbind 'set show-all-if-ambiguous on'\nPS1='now '\n",
            "zsh": f"autoload -U compinit; compinit -u -d {directory}/dump; source {script}\nPS1='now '\n",
        }[name]
        (directory / ".zshrc").write_text(start)
        argv = {
            "bash": ["bash", "--noprofile", "--rcfile", str(directory / ".zshrc"), "-i"],
            "zsh": ["zsh", "-d", "-i"],
        }[name]
        path = f"{fake.parent}:{os.environ['PATH']}"
        env = {"PATH": path, "ZDOTDIR": str(directory), "HOME": str(directory), "TERM": "xterm"}
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=directory, env=env
        )
        os.close(theirs)
        self.shown = b""
        self.wait(b"now ")

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def wait(self, awaited: bytes) -> bytes:
        """What was shown up to `awaited`."""
        while awaited not in self.shown:
            self.shown += os.read(self._ours, 4096)
        before, _, self.shown = self.shown.partition(awaited)
        return before

    def type(self, text: bytes) -> None:
        os.write(self._ours, text)


def test_bash_lists_ids_in_the_order_of_the_daemon(tmp_path: Path) -> None:
    with Shell(tmp_path, "bash", "200\\n300\\n100\\n") as shell:
        shell.type(b"riseml logs \t")
        assert shell.wait(b"100").split()[-2:] == [b"200", b"300"]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_shell_completes_a_uri_and_goes_on_in_a_directory(tmp_path: Path, name: str) -> None:
    need(shutil.which(name) is not None, name)
    with Shell(tmp_path, name, "output://7/sub/\\tdirectory\\n") as shell:
        shell.type(b"riseml ls output://7/s\t")
        shell.wait(b"ub/")
        assert shell.asked.read_text() == "<ls><output://7/s>"
        shell.asked.unlink()
        shell.type(b"m\t")
        while not shell.asked.exists() or not shell.asked.read_text().endswith(">"):
            shell.shown += os.read(shell._ours, 4096)
        assert shell.asked.read_text() == "<ls><output://7/sub/m>"  # no blank came between


def test_bash_completes_behind_an_equals_sign(tmp_path: Path) -> None:
    with Shell(tmp_path, "bash", "--sort=loss\\n") as shell:
        shell.type(b"riseml status 7 --sort=lo\t")
        shell.wait(b"ss")
        assert shell.asked.read_text() == "<status><7><--sort=lo>"
