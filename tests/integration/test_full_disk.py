"""A disk without room: nothing new is taken, what runs runs on, and nothing that happens is forgotten."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aftermath import Gate, assert_nothing_is_left, refused, wait_until_gone
from box import PATIENCE, Box, need

from riseml_proto.states import State

SET = """\
project: full
train:
  parameters: {code: [0, 3, 7]}
  concurrency: 2
  env: {GATE: %s}
  run: echo ready; cat <"$GATE"; exit {{code}}
"""
FILLS = """\
project: full
train:
  env: {GATE: %s}
  run: "yes 12345678901234567890123456789012345678901234567890 | head -n 400000; cat <$GATE"
"""
MakeBox = Callable[..., Box]


@pytest.fixture
def make_small(make_box: MakeBox, tmp_path: Path) -> Iterator[MakeBox]:
    """Makes a box whose state and outputs lie on a disk of 16 MiB."""
    need(os.geteuid() == 0, "right to mount a small disk")
    boxes: list[Box] = []

    def make(**flags: object) -> Box:
        box = make_box(**flags)
        disk = box.root / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], check=False
        )
        need(mounted.returncode == 0, "right to mount a small disk")
        box.state, box.output = disk / "state", disk / "output"
        boxes.append(box)
        return box

    yield make
    for box in boxes:
        box.close()
        subprocess.run(["umount", "--lazy", str(box.root / "disk")], check=True)


def fill(box: Box, *, leave: int = 0) -> Path:
    """Leave so many bytes of room on the box's disk; return the file whose removal makes more."""
    ballast = box.root / "disk" / "ballast"
    if leave:
        free = os.statvfs(ballast.parent)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave)
        return ballast
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1))
    return ballast


def wait_until_full(box: Box) -> None:
    """Wait until a job has filled the disk with its output. The kernel tells nobody of that."""
    deadline = time.monotonic() + PATIENCE
    while os.statvfs(box.root / "disk").f_bavail:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def states(box: Box) -> list[str]:
    """The state of each sub-experiment of 1."""
    detail: dict[str, Any] = json.loads(box.run("status", "1", "--json").stdout)
    return [member["state"] for member in detail["experiments"]]


def refusal(box: Box, text: str) -> str:
    """What `riseml train` of `text` is refused with."""
    done = box.run("train", "-d", cwd=box.project(text), check=False)
    assert done.returncode == 2
    return done.stderr


def blocked(box: Box) -> Gate:
    """Start a set of three, two of which run now and wait for the gate."""
    gate = Gate(box.root / "gate")
    box.train(SET % gate.path)
    for target in ("1.1", "1.2"):
        box.wait_for_line(target, "ready")
    return gate


def test_a_disk_with_less_room_than_asked_for_takes_nothing_new(make_small: MakeBox) -> None:
    box = make_small(min_free=1000)
    box.start()
    assert f"MiB are free on the disk of {box.state}, and new experiments need 1000" in refusal(
        box, SET % "/dev/null"
    )
    assert box.json("status", "-a") == []


def test_a_full_disk_takes_nothing_new_and_keeps_what_happens(make_small: MakeBox) -> None:
    box = make_small()
    box.start()
    gate = blocked(box)
    ballast = fill(box)
    assert "no room left on this disk; free some" in refusal(box, SET % "/dev/null")
    assert "only 0 MiB are free" in refusal(box, SET % gate.path)
    assert states(box) == ["RUNNING", "RUNNING", "CREATED"]

    gate.open()
    assert [box.wait_for_end("1.1"), box.wait_for_end("1.2")] == [State.FINISHED, State.FAILED]
    box.kill_daemon()
    box.start()
    assert states(box)[:2] == ["FINISHED", "FAILED"]
    box.stop()

    ballast.unlink()
    box.start()
    assert box.wait_for_end("1.3") is State.FAILED
    detail = json.loads(box.run("status", "1", "--json").stdout)
    assert [member["exit_code"] for member in detail["experiments"]] == [0, 3, 7]
    assert box.train(SET % gate.path) == "2"
    assert box.wait_for_end("2") is State.FINISHED
    box.stop()
    assert_nothing_is_left(box)


ONE = """\
project: full
train:
  env: {GATE: %s}
  run: echo ready; cat <"$GATE"
"""


@pytest.mark.slow
def test_what_waits_for_room_goes_on_when_there_is_some(make_small: MakeBox) -> None:
    box = make_small()
    box.start()
    gate = Gate(box.root / "gate")
    large = os.urandom(1 << 20).hex()
    box.train(ONE % gate.path, large=large)
    box.wait_for_line("1", "ready")
    ballast = fill(box, leave=3 << 19)
    assert box.train(ONE % gate.path, large=large) == "2"
    box.wait("2", lambda entry: "room" in str(getattr(entry, "message", "")))
    ballast.unlink()
    box.wait_for_line("2", "ready")
    gate.open()
    assert [box.wait_for_end("1"), box.wait_for_end("2")] == [State.FINISHED, State.FINISHED]
    box.stop()
    assert_nothing_is_left(box)


def test_jobs_that_end_while_the_disk_is_full_and_no_daemon_runs_keep_their_exit_codes(
    make_small: MakeBox,
) -> None:
    box = make_small()
    box.start()
    gate = blocked(box)
    fill(box)
    box.kill_daemon()
    gate.open()
    wait_until_gone(box.processes())
    box.start()
    assert [box.wait_for_end("1.1"), box.wait_for_end("1.2")] == [State.FINISHED, State.FAILED]


def test_a_job_that_has_filled_the_disk_can_be_killed(make_small: MakeBox) -> None:
    box = make_small()
    box.start()
    box.train(FILLS.replace("head -n 400000", "cat") % "/dev/null")
    wait_until_full(box)
    box.run("kill", "1")
    assert box.processes() == {}
    for end_daemon in (box.kill_daemon, box.stop):
        end_daemon()
        box.start()
        assert states(box) == ["KILLED"]
    box.stop()
    (box.state / "logs" / "1" / "train.1.log").unlink()
    assert_nothing_is_left(box)


def test_a_job_whose_output_has_no_room_waits_and_loses_none_of_it(make_small: MakeBox) -> None:
    box = make_small()
    box.start()
    ballast = fill(box, leave=4 << 20)
    gate = Gate(box.root / "gate")
    gate.open()
    box.train(FILLS.replace(" | head", " || true) | head").replace('"yes', '"(yes') % gate.path)
    wait_until_full(box)
    assert states(box) == ["RUNNING"]
    box.run("status")
    subprocess.run(["mount", "-o", "remount,size=64m", str(box.root / "disk")], check=True)
    assert box.wait_for_end("1") is State.FINISHED
    ballast.unlink()
    assert (box.state / "logs" / "1" / "train.1.log").stat().st_size == 400_000 * 51


def test_a_daemon_that_finds_no_room_to_begin_says_so(make_small: MakeBox) -> None:
    box = make_small()
    box.socket.parent.mkdir(mode=0o700)
    ballast = fill(box)
    assert "No space left on device" in refused(box)
    os.truncate(ballast, ballast.stat().st_size - (16 << 10))
    assert "rised.db: database or disk is full; free some of the disk" in refused(box)
