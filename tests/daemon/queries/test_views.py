"""What is shown of an experiment is what happened to it, also of the members that have no rows."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rised.policy.outcome import KillMode
from riseml_proto.errors import NotFound
from riseml_proto.ids import CanonicalId, experiment_id
from riseml_proto.messages import ElidedEntry, StateEntry
from riseml_proto.states import State
from riseml_proto.waiting import LacksResources, Shortage
from tests.daemon.records import ONE, SET, records

states = st.sampled_from([state for state in State if state is not State.BUILDING])
moves = st.lists(
    st.tuples(st.integers(1, 6), st.lists(states, min_size=1, max_size=4)),
    max_size=12,
)


@given(moves)
@settings(max_examples=40)
def test_all_views_agree_with_what_happened(walk: list[tuple[int, list[State]]]) -> None:
    with records(SET.format(6)) as world:
        for member, steps in walk:
            world.move(member, *steps)
        row = world.views.row(world.number)
        counts = dict(Counter(map(str, world.states.values())))
        assert [m.state for m in world.shown()] == list(world.states.values())
        assert world.views.counts(row) == counts
        assert world.views.summary(row).counts == counts
        assert world.views.detail(row).counts == counts
        assert world.history.standing(CanonicalId(world.number)).counts == counts
        known = world.history.known(CanonicalId(world.number), 100)
        told = {e.id: e.state for e in known if isinstance(e, StateEntry)}
        assert len(told) == len(known)
        assert told.pop("1") == row.state
        assert told == {experiment_id(1, m): state for m, state in world.states.items()}
        for m, state in world.states.items():
            assert world.history.standing(CanonicalId(1, m)).state is state
            (entry,) = world.history.known(CanonicalId(1, m), 100)
            assert isinstance(entry, StateEntry)
            assert entry.state is state


@given(moves, st.integers(1, 5))
@settings(max_examples=20)
def test_what_is_left_out_is_counted(walk: list[tuple[int, list[State]]], limit: int) -> None:
    with records(SET.format(6)) as world:
        for member, steps in walk:
            world.move(member, *steps)
        known = world.history.known(CanonicalId(world.number), limit)
        told = Counter(e.state for e in known if isinstance(e, StateEntry) and e.id != "1")
        for entry in known:
            if isinstance(entry, ElidedEntry):
                told[entry.state] += entry.count
        assert told == Counter(world.states.values())


@given(moves, st.integers(0, 8))
@settings(max_examples=20)
def test_a_limited_view_is_so_long_and_shows_the_first_unfinished(
    walk: list[tuple[int, list[State]]], limit: int
) -> None:
    with records(SET.format(6)) as world:
        for member, steps in walk:
            world.move(member, *steps)
        shown = [int(m.id.split(".")[1]) for m in world.shown(limit)]
        assert len(shown) == min(limit, 6)
        assert shown == sorted(shown)
        unfinished = [m for m, state in world.states.items() if not state.ended]
        if shown and unfinished:
            assert unfinished[0] in shown


def test_one_that_was_overtaken_on_its_way_to_its_start_is_shown_too() -> None:
    with records(SET.format(3)) as world:
        world.experiment.pop()
        world.experiment.pop()
        world.move(3, State.PENDING, State.STARTING)
        known = world.history.known(CanonicalId(1), 100)
        assert [(e.id, e.state) for e in known if e.id != "1"] == [
            ("1.1", State.PENDING),
            ("1.2", State.CREATED),
            ("1.3", State.STARTING),
        ]


def test_an_experiment_without_parameters_is_its_own_only_member() -> None:
    with records(ONE) as world:
        (member,) = world.shown()
        assert (member.id, member.state, member.params) == ("1", State.PENDING, {})
        assert world.views.summary(world.views.row(1)).counts == {"PENDING": 1}
        world.move(0, State.STARTING, State.RUNNING, State.FINISHED)
        (member,) = world.shown(0)
        assert member.state is State.FINISHED
        assert world.views.summary(world.views.row(1)).counts == {"FINISHED": 1}
        assert world.views.summary(world.views.row(1)).type == "Experiment"


def test_one_that_runs_longer_than_those_after_it_is_shown() -> None:
    with records(SET.format(6)) as world:
        world.move(1, State.PENDING, State.STARTING, State.RUNNING)
        for member in (2, 3, 4):
            world.move(member, State.PENDING, State.STARTING, State.RUNNING, State.FINISHED)
        assert [m.id for m in world.shown(2)] == ["1.1", "1.2"]
        world.move(1, State.FINISHED)
        assert [m.id for m in world.shown(2)] == ["1.5", "1.6"]


def test_of_a_set_that_was_killed_early_the_end_of_what_ran_is_shown() -> None:
    with records(SET.format(1000)) as world:
        for member in (1, 2):
            world.move(member, State.PENDING, State.STARTING, State.KILLED)
        world.transitions.kill_rest(world.experiment, KillMode.GRACEFUL)
        world.unfinished.clear()
        assert [m.id for m in world.shown(4)] == ["1.2", "1.3", "1.4", "1.5"]
        assert {m.state for m in world.shown(4)} == {State.KILLED}
        assert world.views.counts(world.views.row(1)) == {"KILLED": 1000}


def test_a_million_members_cost_what_is_shown_of_them() -> None:
    with records(SET.format(1_000_000)) as world:
        row = world.views.row(1)
        assert world.views.counts(row) == {"CREATED": 999_999, "PENDING": 1}
        assert [m.id for m in world.shown(3)] == ["1.1", "1.2", "1.3"]
        assert world.shown(3)[2].params == {"n": "3"}
        assert len(world.history.known(CanonicalId(1), 10)) == 3
        opening = world.history.opening(CanonicalId(1))
        assert isinstance(opening[-1], ElidedEntry)
        assert sum(getattr(entry, "count", 1) for entry in opening) == 1_000_001


def test_gpus_are_shown_by_index_and_params_as_written() -> None:
    with records(SET.format(2)) as world:
        row = world.database.members.get(1, 1)
        assert row is not None
        with world.database.transaction():
            world.database.members.save(row._replace(gpus=json.dumps([[3, "GPU-uuid"], [0, None]])))
        assert world.shown()[0].gpus == [3, 0]


def test_what_waits_says_what_for() -> None:
    with records(SET.format(6)) as world:
        assert [m.reason for m in world.shown()][1] == "waits for 1.1 to start"
        lacks = LacksResources((Shortage("GPU", 3, 1),))
        world.wait_reasons[1] = lacks
        for shown in (world.shown()[0], world.views.detail(world.views.row(1))):
            assert (shown.reason, shown.waits_for) == ("waits for 3 GPUs (1 free)", lacks)
        for holder in range(3):
            world.experiment.limiter.acquire_on_behalf_of_nowait(holder)
        world.wait_reasons.clear()
        assert world.shown()[4].reason == "waits for one of 1's 3 slots"


def test_an_experiment_that_is_not_there_is_said_to_be_none() -> None:
    with records(ONE) as world, pytest.raises(NotFound, match="no experiment 7"):
        world.views.row(7)


def test_ended_ones_are_listed_in_pages_in_order() -> None:
    with records(ONE) as world:
        world.move(0, State.KILLED)
        assert list(world.views.rows(ended=False)) == []
        assert [[row.id for row in page] for page in world.views.rows(ended=True)] == [[1]]
