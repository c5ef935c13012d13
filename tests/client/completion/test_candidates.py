"""What a shell is told of an unfinished command line."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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


def ids(command: str, host: str | None, typed: str) -> Iterator[Candidate]:
    yield Candidate("144", f"{command} {host} {typed}")


def words(*typed: str) -> list[str]:
    return [one.word for one in candidates(typed, ids)]


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
    offers = candidates([command, "--"], ids)
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
    (offer,) = candidates(["--host", "ssh://a", "logs", "1"], ids)
    assert offer.help == "logs ssh://a 1"
    (offer,) = candidates(["logs", "--host", "ssh://b", "1"], ids)
    assert offer.help == "logs ssh://b 1"


def test_choices_and_files_are_offered_where_they_may_stand() -> None:
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert "info" in words("system", "")
    assert words("train", "-f", "") == words("train", "--file", "x") == [FILES]


@given(st.lists(st.sampled_from(["", "-", "--", "--host", "=", "logs", "help", "144", "-f", "\0"])))
def test_no_line_however_odd_is_an_error(typed: list[str]) -> None:
    for one in candidates(typed, ids):
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


def test_bash_lists_ids_in_the_order_of_the_daemon(tmp_path: Path) -> None:
    rc = tmp_path / "rc"
    fake = "riseml() { printf '200\\n300\\n100\\n'; }\nbind 'set show-all-if-ambiguous on'\n"
    rc.write_text(f"{SCRIPTS['bash']}{fake}PS1='now '\n")
    ours, theirs = pty.openpty()
    argv = ["bash", "--noprofile", "--rcfile", str(rc), "-i"]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path) as shell:
        os.close(theirs)
        shown = b""
        for typed, awaited in ((b"", b"now "), (b"riseml logs \t", b"100")):
            os.write(ours, typed)
            while awaited not in shown:
                shown += os.read(ours, 4096)
        shell.kill()
    os.close(ours)
    assert shown.split(b"riseml logs")[1].split()[:3] == [b"200", b"300", b"100"]
