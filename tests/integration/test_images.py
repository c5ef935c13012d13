"""Experiments with an image, on a real engine: what is built, when, and what is left of it in the end."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aftermath import Gate, assert_attempts_rise, assert_nothing_is_left, output
from box import Box
from engine import BUSYBOX, built_images, containers, docker, need_python
from hostile import wait_until_empty

from riseml_proto.messages import Entry, StateEntry
from riseml_proto.states import State

pytestmark = pytest.mark.slow  # each of them waits for a real engine, or a real TensorBoard

MakeBox = Callable[..., Box]

EXAMPLE = Path(__file__).parents[2] / "examples" / "container"
HELD_BUILD = f"""\
project: held
train:
  image:
    name: {BUSYBOX}
    install:
      - echo begun >>/times; mkfifo /gate; echo ready; cat /gate; echo done
  run: cat /times
"""
UNTIL_TOLD = f"""\
project: runs
train:
  image: {BUSYBOX}
  parameters: {{code: [0, 3, 7]}}
  concurrency: 2
  run:
    - echo "$EXPERIMENT_ID" >>/output/ran
    - echo ready
    - cat /data/gate
    - echo "told {{{{code}}}}"
    - (exit {{{{code}}}})
"""


def states(entries: list[Entry], target: str) -> list[State]:
    """The states that `target` went through."""
    return [e.state for e in entries if isinstance(e, StateEntry) and e.id == target]


def told(box: Box, target: str) -> list[Entry]:
    """All that `riseml train` tells of `target`, to its end."""
    return list(box.entries(target, opening=True))


def outputs(box: Box, number: str) -> Path:
    """The output directory of an experiment."""
    found: Any = box.json("status", number)
    return Path(box.output, found["user"], found["project"], number)


def assert_no_container_is_left(box: Box) -> None:
    """Wait until the daemon has removed all that its jobs had, and stop it."""
    wait_until_empty(box.state / "containers")
    box.stop()
    assert containers(box.root) == []
    assert_nothing_is_left(box)


@pytest.mark.slow
def test_the_example_is_built_once_and_runs(engine_box: Box) -> None:
    need_python()
    box = engine_box
    first = box.run("train", cwd=EXAMPLE).stdout.splitlines()
    assert first[0].startswith("Syncing project (")
    heard = [line.replace(" ", "").partition("|")[::2] for line in first[1:]]
    plain = [f"{who} {text.partition(']')[2]}" for who, text in heard]
    assert plain[:7] == [
        *("1 -->CREATED", *(f"1.{n} -->CREATED" for n in (1, 2, 3, 4))),
        *("1 -->BUILDING", "1.build Step1/2:python--version"),
    ]
    assert "1.build Successfullyinstalledtinynet-1.0" in plain
    assert "1 -->PENDING" in plain
    assert plain[-2:] == ["1 -->FINISHED", "1 Reason:COMPLETED"]
    second = box.run("train", cwd=EXAMPLE).stdout
    assert "BUILDING" not in second
    assert "2.build" not in second
    found: Any = box.json("status", "2")
    assert found["counts"] == {"FINISHED": 4}
    results = (outputs(box, "2") / "3" / "riseml-results.jsonl").read_text().splitlines()
    assert json.loads(results[-1])["accuracy"] == 1.0
    assert_no_container_is_left(box)


@pytest.mark.parametrize("meanwhile", [True, False])
def test_a_build_goes_on_where_the_daemon_dies(engine_box: Box, meanwhile: bool) -> None:
    box = engine_box
    box.train(HELD_BUILD)
    box.wait_for_line("1", "ready")
    (building,) = containers(box.root)
    box.kill_daemon()
    if not meanwhile:
        box.start()
    docker("exec", building, "sh", "-c", "echo through >/gate")
    if meanwhile:
        docker("wait", building)
        box.start()
    entries = told(box, "1")
    assert states(entries, "1")[-1] is State.FINISHED
    lines = output(entries)
    assert lines["1.build"][1:] == ["ready", "through", "done"]
    assert lines["1.train"] == ["begun"]
    assert_no_container_is_left(box)
    assert len(built_images(box)) == 1


@pytest.mark.parametrize("meanwhile", [True, False])
def test_runs_go_on_where_the_daemon_dies(engine_box: Box, meanwhile: bool) -> None:
    box = engine_box
    gate = Gate(box.data / "gate")
    box.train(UNTIL_TOLD)
    for member in ("1.1", "1.2"):
        box.wait_for_line(member, "ready")
    there = [name for name in containers(box.root) if ".3." not in name]
    box.kill_daemon()
    if not meanwhile:
        box.start()
    gate.open()
    if meanwhile:
        docker("wait", *there)
        box.start()
    entries = told(box, "1")
    assert states(entries, "1")[-1] is State.FINISHED
    assert output(entries) == {
        f"1.{n}.train": ["ready", f"told {code}"] for n, code in ((1, 0), (2, 3), (3, 7))
    }
    found: Any = box.json("status", "1")
    assert [member["exit_code"] for member in found["experiments"]] == [0, 3, 7]
    for n in (1, 2, 3):
        assert (outputs(box, "1") / str(n) / "ran").read_text() == f"1.{n}\n"
    assert_no_container_is_left(box)
    assert_attempts_rise(box)


NOTHING = f"""\
project: many
train:
  image: {BUSYBOX}
  parameters: {{n: {{range: {{min: 1, max: %s, step: 1}}}}}}
  concurrency: 8
  run: 'true'
"""


def needs(box: Box) -> tuple[int, float]:
    """How many file descriptors the daemon has, and how many MB of memory."""
    assert box.daemon is not None
    place = Path("/proc", str(box.daemon.pid))
    pages = int((place / "statm").read_text().split()[1])
    return len(os.listdir(place / "fd")), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
def test_hundreds_of_containers_leave_nothing_behind(engine_box: Box) -> None:
    box = engine_box
    box.train(NOTHING % 40)
    assert box.wait_for_end("1") is State.FINISHED
    files, memory = needs(box)
    box.train(NOTHING % 200)
    assert box.wait_for_end("2") is State.FINISHED
    more_files, more_memory = needs(box)
    found: Any = box.json("status", "2")
    assert found["counts"] == {"FINISHED": 200}
    assert more_files <= files + 8
    assert more_memory <= memory + 8
    assert_no_container_is_left(box)
