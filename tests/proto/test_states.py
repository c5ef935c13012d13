import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml_proto.states import ACTIVE, ENDED, TRANSITIONS, State, advance, set_outcome, set_state

STATES = st.sampled_from(State)
ORDER = [State.CREATED, State.BUILDING, State.PENDING, State.STARTING, State.RUNNING]


def test_nothing_leaves_an_end() -> None:
    assert all(not TRANSITIONS[state] for state in ENDED)
    assert all(state.ended == (not TRANSITIONS[state]) for state in State)


def test_what_has_not_ended_can_be_killed_and_can_fail() -> None:
    for state in {State.CREATED} | ACTIVE:
        assert {State.KILLED, State.FAILED} <= TRANSITIONS[state]


def test_every_state_can_be_reached_and_only_what_runs_can_finish() -> None:
    reached = {State.CREATED}
    for _ in State:
        reached |= {new for old in reached for new in TRANSITIONS[old]}
    assert reached == set(State)
    assert [old for old in State if State.FINISHED in TRANSITIONS[old]] == [State.RUNNING]


def test_the_only_way_back_is_to_wait_for_another_attempt() -> None:
    back = {
        (old, new)
        for old in ORDER
        for new in TRANSITIONS[old]
        if new in ORDER and ORDER.index(new) <= ORDER.index(old)
    }
    assert back == {(State.STARTING, State.PENDING), (State.RUNNING, State.PENDING)}


@given(STATES, STATES)
def test_advance_allows_what_the_table_has_and_nothing_else(old: State, new: State) -> None:
    if new in TRANSITIONS[old]:
        assert advance(old, new) is new
    else:
        with pytest.raises(ValueError, match=f"from {old} to {new}"):
            advance(old, new)


@given(STATES, st.lists(STATES))
def test_a_set_never_goes_backwards_and_no_member_ends_it(start: State, moves: list[State]) -> None:
    state = start
    for move in moves:
        after = set_state(state, move)
        if state.ended:
            assert after is state
        else:
            assert ORDER.index(after) >= ORDER.index(state)
            assert after in (state, move)
        state = after


@pytest.mark.parametrize(
    ("counts", "killed", "outcome"),
    [
        ({State.FINISHED: 1, State.FAILED: 7}, False, State.FINISHED),
        ({State.FAILED: 1, State.KILLED: 7}, False, State.FAILED),
        ({State.KILLED: 8}, False, State.KILLED),
        ({State.FINISHED: 8}, True, State.KILLED),
        ({State.FINISHED: 0, State.FAILED: 1}, False, State.FAILED),
    ],
)
def test_a_set_does_not_fail_because_a_member_did(
    counts: dict[State, int], killed: bool, outcome: State
) -> None:
    assert set_outcome(counts, killed=killed) is outcome
