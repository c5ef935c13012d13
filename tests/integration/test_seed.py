"""The example with which the documentation introduces hyperparameter experiments, as it shows it.

Once in containers, with a local image of the name that it says, and once as processes, where the image is ignored.
"""

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from box import Box
from engine import PYTHON, called, need_python, remove_all

from riseml_proto.states import State

CONFIG = """\
project: ai-toaster
train:
  resources:
    cpus: 2
    mem: 4096
    gpus: 2
  parameters:
    lr:
      - 0.0001
      - 0.001
    lr-decay:
      - 1e-6
      - 1e-7
    epochs:
      - 20
      - 30
  concurrency: 2
  image:
    name: nvidia/cuda:8.0-cudnn7-runtime
  run: >-
    python train_model.py --num-layers {{num-layers}}
                          --learning-rate {{learning-rate}}
                          --training-data /data/ai-toaster
"""
OPENING = """\
Syncing project (1.3 MB, 7 files)...done
144             | [TIME] --> PENDING
144.1           | [TIME] --> PENDING
144.2           | [TIME] --> CREATED
144.3           | [TIME] --> CREATED
144.4           | [TIME] --> CREATED
144.5           | [TIME] --> CREATED
144.6           | [TIME] --> CREATED
144.7           | [TIME] --> CREATED
144.8           | [TIME] --> CREATED
"""
TABLE = """\
ID: 144
Type: Set
State: RUNNING
Project: ai-toaster

EXP ID STATE     AGE           PARAMS
144.1  RUNNING   AGE           epochs=20, lr=0.0001, lr-decay=1e-6
144.2  RUNNING   AGE           epochs=20, lr=0.0001, lr-decay=1e-7
144.3  CREATED   AGE           epochs=20, lr=0.001, lr-decay=1e-6
144.4  CREATED   AGE           epochs=20, lr=0.001, lr-decay=1e-7
144.5  CREATED   AGE           epochs=30, lr=0.0001, lr-decay=1e-6
144.6  CREATED   AGE           epochs=30, lr=0.0001, lr-decay=1e-7
144.7  CREATED   AGE           epochs=30, lr=0.001, lr-decay=1e-6
144.8  CREATED   AGE           epochs=30, lr=0.001, lr-decay=1e-7
"""
CONFIGURATION = """\
image:
  name: nvidia/cuda:8.0-cudnn7-runtime
params:
  epochs: 20
  lr: 0.0001
  lr-decay: 1e-7
project: ai-toaster
resources:
  cpus: 2
  gpus: 2
  mem: 4096
revision: REVISION
run:
  run: >-
    python train_model.py --num-layers {{num-layers}}
                          --learning-rate {{learning-rate}}
                          --training-data /data/ai-toaster

"""
MODEL = """\
import os, sys
print(*sys.argv[1:])
print("ready", os.environ["CUDA_VISIBLE_DEVICES"], os.environ["LR_DECAY"], flush=True)
open(os.environ["DATA_DIR"] + "/go").read()
"""


IMAGE = "nvidia/cuda:8.0-cudnn7-runtime"


class Seed(NamedTuple):
    """The example, submitted; its sub-experiments wait for a line in `go`."""

    box: Box
    project: Path
    go: Path
    printed: str
    warned: str


def start_at(box: Box, number: int) -> None:
    """Let the next experiment of the stopped `box` have this number."""
    with sqlite3.connect(box.state / "rised.db") as db:
        db.execute("INSERT INTO sqlite_sequence VALUES ('experiments', ?)", (number - 1,))
    db.close()


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.slow)])
def empty(request: pytest.FixtureRequest, make_box: Callable[..., Box]) -> Iterator[Box]:
    """A box with 4 GPUs whose next experiment is 144."""
    box = make_box(runner=request.param, gpus=4, cpus=8, mem=32768)
    with contextlib.ExitStack() as stack:
        if request.param == "docker":
            need_python()
            stack.enter_context(called(PYTHON, IMAGE))
            stack.callback(remove_all, box)
            stack.callback(box.stop)
        box.start()
        box.stop()
        start_at(box, 144)
        box.start()
        yield box


@pytest.fixture
def seed(empty: Box) -> Seed:
    box = empty
    project = box.project(CONFIG, **{"train_model.py": MODEL})
    for number in range(5):
        (project / f"data{number}").write_bytes(os.urandom(260_000))
    go = box.data / "go"
    os.mkfifo(go)
    done = box.run("train", "-d", cwd=project)
    for member in ("144.1", "144.2"):
        box.wait(member, lambda entry: getattr(entry, "text", "").startswith("ready"))
    return Seed(box, project, go, done.stdout, done.stderr)


def ignores_images(box: Box) -> bool:
    """Whether jobs are processes there."""
    return box.flags["runner"] == "process"


def times_out(text: str) -> str:
    """The text without its times and ages."""
    text = re.sub(r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\]", "[TIME]", text)
    return re.sub(r"\d+ (second|minute)\(s\) *", "AGE           ", text)


def test_the_table_is_the_one_that_is_shown(seed: Seed) -> None:
    table = seed.box.run("status", "144").stdout
    assert re.search(r"^144.1  RUNNING   \d+ second\(s\)   epochs=20", table, re.MULTILINE)
    assert times_out(table) == TABLE


def test_two_run_at_a_time_on_gpus_of_their_own(seed: Seed) -> None:
    found: Any = seed.box.json("status", "144")
    assert found["state"] == "RUNNING"
    assert found["counts"] == {"CREATED": 6, "RUNNING": 2}
    assert [m["gpus"] for m in found["experiments"]] == [[0, 1], [2, 3], *[[]] * 6]
    log = seed.box.run("logs", "--raw", "144.2").stdout
    if ignores_images(seed.box):
        first, _, log = log.partition("\n")
        assert first == f"rised: image {IMAGE} is ignored: jobs are processes here"
    assert log == (
        "--num-layers {{num-layers}} --learning-rate {{learning-rate}}"
        " --training-data /data/ai-toaster\n"
        "ready 2,3 1e-7\n"
    )
    system: Any = seed.box.json("system", "info")
    assert [gpu["used_by"] for gpu in system["gpus"]] == ["144.1", "144.1", "144.2", "144.2"]
    assert (system["cpus"]["used"], system["memory"]["used"]) == (4, 8192)


def test_the_configuration_beside_the_output_is_the_one_that_is_shown(seed: Seed) -> None:
    found: Any = seed.box.json("status", "144")
    output = seed.box.output / found["user"] / "ai-toaster" / "144"
    text = (output / "2" / "riseml-configuration.yml").read_text()
    assert text == CONFIGURATION.replace("REVISION", found["revision"])
    assert re.fullmatch("[0-9a-f]{40}", found["revision"])
    assert sorted(os.listdir(output)) == ["1", "2"]


def test_the_two_placeholders_that_no_parameter_defines_are_named(seed: Seed) -> None:
    assert seed.printed.startswith("Syncing project (1.3 MB, 7 files)...done\n")
    lines = seed.warned.splitlines()
    assert all(line.startswith("riseml: warning: riseml.yml:") for line in lines)
    assert "riseml.yml:21:" in lines[0]
    assert "num-layers" in lines[0]
    assert "riseml.yml:22:" in lines[1]
    assert "learning-rate" in lines[1]
    assert [f"{IMAGE} is ignored" in line for line in lines[2:]] == [True] * ignores_images(
        seed.box
    )
    done = seed.box.run("train", "--strict", cwd=seed.project, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("riseml: riseml.yml:21: ")
    assert "num-layers" in done.stderr


def test_one_that_is_killed_makes_room_for_the_next_and_the_set_goes_on(seed: Seed) -> None:
    assert seed.box.run("kill", "-f", "144.1").stdout == "killed experiment 144.1\n"
    entry = seed.box.wait("144.3", lambda e: getattr(e, "text", "").startswith("ready"))
    assert entry.text == "ready 0,1 1e-6"  # type: ignore[union-attr]
    found: Any = seed.box.json("status", "144")
    assert found["counts"] == {"CREATED": 5, "RUNNING": 2, "KILLED": 1}
    seed.box.run("kill", "-f", "144")
    assert seed.box.wait_for_end("144") is State.KILLED


def test_it_opens_as_it_is_shown_and_runs_to_its_end(empty: Box) -> None:
    box = empty
    project = box.project(CONFIG, **{"train_model.py": "print('trained')\n"})
    for number in range(5):
        (project / f"data{number}").write_bytes(os.urandom(260_000))
    printed = times_out(box.run("train", cwd=project).stdout)
    assert printed.startswith(OPENING)
    for number in range(1, 9):
        assert f"\n144.{number}.train     | [TIME] trained\n" in printed
        assert f"\n144.{number}           | [TIME] --> FINISHED\n" in printed
    assert "\n144             | [TIME] --> FINISHED\n" in printed
    table = times_out(box.run("status", "144").stdout)
    assert table == re.sub("RUNNING  |CREATED  ", "FINISHED ", TABLE).replace("RUNNING", "FINISHED")
    assert "144 " not in box.run("status").stdout
    assert "144 " in box.run("status", "-a").stdout
