"""The first rows of a submission."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rised.experiments.transitions import Transitions
from rised.policy.fairshare import FairShare
from rised.storage.database import Database
from rised.storage.rows import BUILD, ExperimentRow, JobRow, MemberRow
from rised.subscriptions import Subscriptions
from riseml_proto.config import parse_config
from riseml_proto.states import State

ONE = "project: p\ntrain: {run: 'true'}\n"
SET = "project: p\ntrain: {run: 'true', parameters: {n: [1, 2, 3]}}\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(str(tmp_path))) as opened:
        yield opened


@pytest.mark.parametrize("text", [ONE, SET], ids=["one", "set"])
@pytest.mark.parametrize("builds", [False, True], ids=["ready", "builds"])
def test_a_submission_writes_what_waits_and_returns_what_is_on_disk(
    database: Database, text: str, builds: bool
) -> None:
    config = parse_config(text)
    state = State.BUILDING if builds else State.PENDING
    row = ExperimentRow(
        0, "paul", 1000, "p", "f" * 40, text, "riseml.yml", "{}", config.count, state, 5
    )
    transitions = Transitions(database, Subscriptions(), FairShare(86_400.0, {}))
    experiment = transitions.submit(row, config)

    assert experiment.number == 1
    assert database.experiments.get(1) == experiment.row == row._replace(id=1)
    first = 1 if config.count else 0
    waiting = {} if builds and config.count else {first: state}
    assert experiment.active == waiting
    assert database.members.unended(1) == [MemberRow(1, n, s) for n, s in waiting.items()]
    job = JobRow(1, BUILD, 1, 5)
    assert database.jobs.unended() == ([job] if builds else [])
    events = database.events.after(experiment.row, 0, 9)
    assert [(e.member, e.state, e.attempt) for e in events] == ([(0, state, 1)] if builds else [])
    assert transitions.submit(row, config).row.first_seq == len(events)
