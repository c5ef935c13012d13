"""State that an older version wrote: every one of the fixtures opens in the rised that is here, with all it held."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from box import Box

from rised.storage.schema import MIGRATIONS
from riseml_proto.messages import StateEntry

FIXTURES = Path(__file__).parent.parent / "daemon" / "fixtures"


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_database_of_an_older_version_opens_with_all_it_held(
    make_box: Callable[..., Box], version: int
) -> None:
    box = make_box(gpus=1)
    box.state.mkdir()
    with closing(sqlite3.connect(box.state / "rised.db")) as old:
        old.executescript((FIXTURES / f"state-{version}.sql").read_text())
    box.start()

    box.wait_for_end("2")  # it ran before the machine was started again
    listed = json.loads(box.run("status", "-a", "--json").stdout)
    assert [(e["id"], e["state"], e["counts"]) for e in sorted(listed, key=lambda e: e["id"])] == [
        ("1", "FINISHED", {"FINISHED": 2, "FAILED": 2}),
        ("2", "FAILED", {"FAILED": 1}),
        ("3", "PENDING", {"CREATED": 2, "PENDING": 1}),
        ("4", "KILLED", {"KILLED": 3}),
    ]
    assert {e["user"] for e in listed} == {"paul"}
    sweep = json.loads(box.run("status", "1", "--json").stdout)
    assert [
        (m["params"], m["state"], m["exit_code"], m["reason"]) for m in sweep["experiments"]
    ] == [
        ({"lr": "0.1", "n": "1"}, "FINISHED", 0, "COMPLETED"),
        ({"lr": "0.1", "n": "2"}, "FAILED", 1, "ERROR"),
        ({"lr": "1e-3", "n": "1"}, "FINISHED", 0, "COMPLETED"),
        ({"lr": "1e-3", "n": "2"}, "FAILED", 1, "ERROR"),
    ]
    (lost,) = json.loads(box.run("status", "2", "--json").stdout)["experiments"]
    assert (lost["exit_code"], lost["reason"]) == (None, "LOST")
    waits = json.loads(box.run("status", "3", "--json").stdout)["experiments"][0]
    assert waits["reason"].startswith("waits for 4 GPUs")
    told = [e for e in box.entries("1.2", opening=True) if isinstance(e, StateEntry)]
    assert [e.state for e in told][-4:] == ["PENDING", "STARTING", "RUNNING", "FAILED"]
    box.run("kill", "3")
    assert box.train("project: toaster\ntrain: {run: 'true'}\n") == "5"


def test_jobs_that_an_older_daemon_left_running_are_looked_for(
    make_box: Callable[..., Box],
) -> None:
    """Processes, a container, a build and a TensorBoard; the machine was started again since."""
    box = make_box(gpus=2)
    box.state.mkdir()
    with closing(sqlite3.connect(box.state / "rised.db")) as old:
        old.executescript((FIXTURES / "state-3-running.sql").read_text())
    box.start()
    box.wait_for_end("1")
    box.wait_for_end("2")
    box.wait_for_end("3")
    ends = [
        (member["id"], member["state"], member["reason"])
        for number in ("1", "2", "3")
        for member in json.loads(box.run("status", number, "--json").stdout)["experiments"]
    ]
    assert ends == [
        ("1.1", "FAILED", "LOST"),
        ("1.2", "FAILED", "LOST"),
        ("1.3", "FAILED", "START_FAILED"),  # the fixture has no files
        ("2", "FAILED", "LOST"),
        ("3", "FAILED", "BUILD_FAILED"),
    ]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_step_of_the_schema_is_what_it_was_when_it_was_released(version: int) -> None:
    def shape(script: str) -> list[tuple[str, str, str]]:
        with closing(sqlite3.connect(":memory:")) as db:
            db.executescript(script)
            found = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name")
            return [(kind, name, " ".join((sql or "").split())) for kind, name, sql in found]

    fixture = (FIXTURES / f"state-{version}.sql").read_text()
    assert shape(";".join(MIGRATIONS[:version])) == shape(fixture)
