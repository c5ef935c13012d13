"""`riseml kill`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from riseml.__main__ import main
from riseml_proto.messages import Kill, Killed


def run(daemon: Any, *argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["kill", "--host", f"unix://{daemon.path}", *argv])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def received(daemon: Any) -> Kill:
    request: Kill = msgspec.json.decode(daemon.requests[-1].body, type=Kill)
    return request


def test_it_says_what_it_killed_and_what_had_already_ended(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = msgspec.json.encode(Killed(killed=["138", "144.2"], ended=["9"]))
    daemon.scripts = [daemon.answers(answer)]
    assert run(daemon, "138", "144.2", "9", "-f") == 0
    assert capsys.readouterr().out == (
        "killed experiment 138\nkilled experiment 144.2\nexperiment 9 has already ended\n"
    )
    assert received(daemon) == Kill(ids=["138", "144.2", "9"], force=True)


def test_programs_get_the_same_as_json(daemon: Any, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.scripts = [daemon.answers(msgspec.json.encode(Killed(killed=["138"], ended=["9"])))]
    assert run(daemon, "138", "9", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"killed": ["138"], "ended": ["9"]}


def test_without_an_id_it_is_the_projects_last_experiment(
    daemon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.scripts = [daemon.answers(msgspec.json.encode(Killed(killed=["144"], ended=[])))]
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    run(daemon)
    assert received(daemon) == Kill(ids=[])
    Path("riseml.yml").write_text("project: toaster\ntrain:\n  run: python train.py\n")
    run(daemon)
    assert received(daemon) == Kill(ids=[], project="toaster")


def test_one_wrong_id_among_several_kills_nothing(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(daemon, "138", "13.B") == 2
    assert "'13.B' is not an ID" in capsys.readouterr().err
    assert daemon.requests == []


def test_ctrl_c_says_that_the_kill_goes_on(daemon: Any) -> None:
    pids: list[int] = []

    def interrupt(connection: Any) -> None:
        daemon.receive(connection)
        os.kill(pids[0], signal.SIGINT)
        connection.recv(1)

    daemon.scripts = [interrupt]
    command = [sys.executable, "-m", "riseml", "--host", f"unix://{daemon.path}", "kill", "144"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        pids.append(process.pid)
        _, text = process.communicate(timeout=20)
    assert process.returncode == 130
    assert text == "\nriseml: the kill goes on; riseml status shows how far it is\n"
