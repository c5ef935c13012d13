"""The daemon dies at every place beside a durable step, one after the other, and nothing is lost or done twice.

The places are the calls of `crash_point` in the daemon's code. Each is tried for the first time that it is passed, for
the second, and so on until a whole sweep goes by without passing it so often.
"""

import ast
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from aftermath import (
    assert_attempts_rise,
    assert_nothing_is_left,
    end_daemon,
    output,
    ran,
    watch,
)
from box import Box

import rised
from riseml_proto.messages import StateEntry
from riseml_proto.states import State

MakeBox = Callable[..., Box]

CODES = [0, 3, 7]
SWEEP = """\
project: crash
train:
  parameters: {code: %s}
  concurrency: 2
  env: {RAN: %s}
  run:
    - echo "$EXPERIMENT_ID" >>"$RAN"
    - for i in 1 2 3; do echo "line $i of $EXPERIMENT_ID"; done
    - (exit {{code}})
"""
BLOCKED = """\
project: crash
train:
  parameters: {code: %s}
  concurrency: 2
  env: {RAN: %s}
  run:
    - echo "$EXPERIMENT_ID" >>"$RAN"
    - echo ready
    - sleep 1000
"""


# test_containers.py passes these.
IN_CONTAINERS = {
    *("before-container", "image-container-made", "container-made", "container-removed"),
    *("before-build", "build-ended", "build-committed"),
}
# test_files.py passes these.
IN_UPLOADS = {"part-synced", "part-published"}


def crash_points() -> set[str]:
    """The name in every call of `crash_point` in the daemon."""
    found = set()
    for path in Path(rised.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crash_point":
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: must be a literal"
                found.add(str(name.value))
    return found


KILLING = {
    "before-commit",
    "after-commit",
    "before-sync",
    "kill-recorded",
    "before-settle",
    "before-end",
    "before-clean",
}
"""Those at which a kill may be cut off."""
ONLY_KILLING = {"kill-recorded"}


def sweep_dies(box: Box, crash_at: str) -> bool:
    """A sweep during which the daemon dies at `crash_at` is as good as one during which it did not.

    Return whether it died.
    """
    project = box.project(SWEEP % (CODES, box.root / "ran"))
    box.start(crash_at=crash_at)
    told = box.run("train", "-d", "--json", cwd=project, check=False)
    acknowledged = told.returncode == 0
    if acknowledged:
        watch(box, "1")
    died = end_daemon(box)
    assert acknowledged or died, told.stderr

    box.start()
    there = box.json("status", "-a")
    assert isinstance(there, list)
    if not acknowledged and not there:
        assert ran(box) == []
        box.run("train", "-d", cwd=project)
    entries = list(box.entries("1", opening=True))
    told_states = [e.state for e in entries if isinstance(e, StateEntry) and e.id == "1"]
    detail = box.json("status", "1")
    assert isinstance(detail, dict)
    box.stop()

    assert told_states[-1] == detail["state"] == State.FINISHED
    assert [member["exit_code"] for member in detail["experiments"]] == CODES
    states = [member["state"] for member in detail["experiments"]]
    assert states == [State.FINISHED, State.FAILED, State.FAILED]
    assert detail["counts"] == {"FINISHED": 1, "FAILED": 2}
    assert ran(box) == ["1.1", "1.2", "1.3"]
    assert output(entries) == {
        f"1.{n}.train": [f"line {i} of 1.{n}" for i in (1, 2, 3)] for n in (1, 2, 3)
    }
    assert_attempts_rise(box)
    assert_nothing_is_left(box)
    return died


def kill_dies(box: Box, crash_at: str) -> bool:
    """A kill during which the daemon dies at `crash_at` is carried out, or was never taken down.

    Return whether it died.
    """
    box.start()
    box.train(BLOCKED % (CODES, box.root / "ran"))
    box.wait_for_line("1.1", "ready")
    box.wait_for_line("1.2", "ready")
    box.kill_daemon()
    box.start(crash_at=crash_at)
    told = box.run("kill", "1", check=False)
    died = end_daemon(box)
    assert died or told.returncode == 0, told.stderr

    box.start()
    if crash_at == "before-commit:1":
        summary = json.loads(box.run("status", "1", "--json").stdout)
        assert summary["state"] == State.RUNNING
        box.run("kill", "1")
    assert box.wait_for_end("1") is State.KILLED
    detail = box.json("status", "1")
    assert isinstance(detail, dict)
    box.stop()

    assert detail["counts"] == {"KILLED": 3}
    assert ran(box) == ["1.1", "1.2"]
    assert_attempts_rise(box)
    assert_nothing_is_left(box)
    return died


def try_all(make_box: MakeBox, scenario: Callable[[Box, str], bool], name: str) -> int:
    """Let the daemon die at `name` for the first time it is passed, the second, …; return how many there were."""
    for number in count(1):
        if not scenario(make_box(), f"{name}:{number}"):
            return number - 1
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(crash_points() - ONLY_KILLING - IN_CONTAINERS - IN_UPLOADS))
def test_a_crash_in_a_sweep_loses_nothing_and_repeats_nothing(make_box: MakeBox, name: str) -> None:
    assert try_all(make_box, sweep_dies, name) > 0, "this sweep never passes it"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KILLING))
def test_a_crash_in_a_kill_leaves_it_carried_out(make_box: MakeBox, name: str) -> None:
    assert try_all(make_box, kill_dies, name) > 0, "this kill never passes it"


@pytest.mark.parametrize("crash_at", ["before-acknowledge", "after-begin:2", "before-end"])
def test_a_crash_in_a_sweep_is_survived(make_box: MakeBox, crash_at: str) -> None:
    assert sweep_dies(make_box(), crash_at)


HOLDS = """\
project: crash
train: {parameters: {n: [1, 2, 3]}, resources: {gpus: 1}, run: "echo ready; sleep 1000"}
"""


@pytest.mark.parametrize("commands", [("train -d", "train -d"), ("kill 1.3", "kill 1.2")])
def test_nobody_is_told_before_it_is_on_the_disk(
    make_box: MakeBox, commands: tuple[str, str]
) -> None:
    box = make_box(gpus=1)
    box.start()
    box.train(HOLDS)  # one runs; nothing else can start, so nothing else is flushed
    box.wait_for_line("1.1", "ready")
    box.kill_daemon()
    for crash_at, command in zip(("before-sync", "after-sync"), commands, strict=True):
        box.start(crash_at=crash_at)
        project = box.root / "project"
        assert box.run(*command.split(), cwd=project, check=False).returncode == 2
        box.wait_for_crash()
