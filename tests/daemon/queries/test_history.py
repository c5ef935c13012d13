"""The records as streams read them: each event once and in order, each attempt between its beginning and its end."""

from collections.abc import Iterator

import pytest

from riseml_proto.errors import NotFound
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import HeadEntry, StateEntry
from riseml_proto.states import State
from tests.daemon.records import ONE, SET, Records, records

RUN = (State.PENDING, State.STARTING, State.RUNNING)


@pytest.fixture
def world() -> Iterator[Records]:
    with records(SET.format(3)) as made:
        yield made


def test_a_stream_opens_with_the_states_at_submission(world: Records) -> None:
    world.move(1, *RUN, State.FINISHED)
    assert world.history.head(CanonicalId(1)) == HeadEntry(id="1", count=3)
    opening = world.history.opening(CanonicalId(1))
    assert [(e.id, e.state) for e in opening] == [
        ("1", State.PENDING),
        ("1.1", State.PENDING),
        ("1.2", State.CREATED),
        ("1.3", State.CREATED),
    ]
    assert all(isinstance(entry, StateEntry) and entry.seq == 0 for entry in opening)


def test_a_members_stream_is_about_the_member(world: Records) -> None:
    world.move(1, *RUN)
    world.move(2, *RUN, State.FAILED)
    target = CanonicalId(1, 2, "train")
    assert world.history.head(target).id == "1.2"
    assert [(e.id, e.state) for e in world.history.opening(target)] == [("1.2", State.CREATED)]
    events = [event.entry for event in world.history.events(target, 0, 100)]
    assert [(e.id, e.state) for e in events] == [("1.2", s) for s in (*RUN, State.FAILED)]
    assert [a.job_id for a in world.history.attempts(target, 0, 100)] == ["1.2.train"]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_events_come_once_and_in_order_however_they_are_paged(world: Records, page: int) -> None:
    world.move(1, *RUN)
    world.move(2, *RUN, State.FINISHED)
    world.move(1, State.KILLED)
    world.move(3, *RUN, State.FAILED)
    seen, after = [], 0
    while events := world.history.events(CanonicalId(1), after, page):
        seen += [event.entry for event in events]
        after = seen[-1].seq
    assert [e.seq for e in seen] == sorted({e.seq for e in seen})
    assert [(e.id, e.state) for e in seen if e.id == "1"] == [
        ("1", State.STARTING),
        ("1", State.RUNNING),
        ("1", State.FINISHED),
    ]
    assert seen[-1].id == "1"
    own = [event.entry for event in world.history.events(CanonicalId(1, 1), 0, 100)]
    assert [e.state for e in own] == [State.STARTING, State.RUNNING, State.KILLED]


def test_each_retry_is_an_attempt_with_a_log_of_its_own(world: Records) -> None:
    world.move(1, *RUN, *RUN, State.FINISHED)
    first, second = world.history.attempts(CanonicalId(1), 0, 100)
    assert (first.key, second.key) == ("1.1.train/1", "1.1.train/2")
    assert first.log != second.log
    assert first.ended is not None
    assert first.began < first.ended < second.began < (second.ended or 0)
    ends = [e for e in world.history.events(CanonicalId(1), 0, 100) if e.attempt]
    assert [(e.entry.state, e.attempt.attempt if e.attempt else 0) for e in ends] == [
        (State.RUNNING, 1),
        (State.PENDING, 1),
        (State.RUNNING, 2),
        (State.FINISHED, 2),
    ]


def test_an_attempt_that_goes_on_has_no_end(world: Records) -> None:
    world.move(1, *RUN)
    (attempt,) = world.history.attempts(CanonicalId(1), 0, 100)
    assert (attempt.ended, attempt.ended_ms) == (None, None)


def test_an_experiment_without_parameters_has_one_stream() -> None:
    with records(ONE) as world:
        world.move(0, *RUN, State.FINISHED)
        events = [event.entry for event in world.history.events(CanonicalId(1), 0, 100)]
        assert [(e.id, e.state) for e in events] == [
            ("1", State.STARTING),
            ("1", State.RUNNING),
            ("1", State.FINISHED),
        ]
        (attempt,) = world.history.attempts(CanonicalId(1), 0, 100)
        assert attempt.key == "1.train/1"
        assert world.history.head(CanonicalId(1)).count == 0


def test_an_experiment_that_does_not_exist_has_no_history(world: Records) -> None:
    with pytest.raises(NotFound):
        world.history.head(CanonicalId(2))
