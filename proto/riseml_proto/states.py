"""The states of an experiment and the transitions between them.

    CREATED ──> BUILDING ──> PENDING ──> STARTING ──> RUNNING ──> FINISHED
                                ^            │            │
                                └── retry ───┴────────────┘

From each of the first five states a user can kill an experiment (KILLED) and a fault can end it (FAILED). The last
three are final. A retry goes back to PENDING with a new attempt number, and so does a start that a crash of the daemon
prevented.

A set's own state follows its sub-experiments and only moves forward (`set_state`): it is RUNNING from the first
sub-experiment that runs until the last one has ended, also while none runs.
"""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """The state of an experiment or sub-experiment."""

    CREATED = "CREATED"
    BUILDING = "BUILDING"
    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self in ENDED


class Reason(StrEnum):
    """Why an experiment or sub-experiment ended."""

    COMPLETED = "COMPLETED"  # exit code 0
    ERROR = "ERROR"  # another exit code
    KILLED = "KILLED"  # by a person
    TIME_LIMIT = "TIME_LIMIT"  # ran longer than its time_limit
    LOST = "LOST"  # nobody saw the end: the machine lost power, or the job's shell was killed
    START_FAILED = "START_FAILED"  # never ran: its files, directories or process could not be made
    BUILD_FAILED = "BUILD_FAILED"  # never ran: its image could not be pulled or built


ENDED = frozenset({State.FINISHED, State.FAILED, State.KILLED})
ACTIVE = frozenset({State.BUILDING, State.PENDING, State.STARTING, State.RUNNING})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CREATED: frozenset({State.BUILDING, State.PENDING, State.KILLED, State.FAILED}),
    State.BUILDING: frozenset({State.PENDING, State.KILLED, State.FAILED}),
    State.PENDING: frozenset({State.STARTING, State.KILLED, State.FAILED}),
    State.STARTING: frozenset({State.RUNNING, State.PENDING, State.KILLED, State.FAILED}),
    State.RUNNING: frozenset({State.FINISHED, State.PENDING, State.KILLED, State.FAILED}),
    State.FINISHED: frozenset(),
    State.FAILED: frozenset(),
    State.KILLED: frozenset(),
}

_FORWARD = (State.CREATED, State.BUILDING, State.PENDING, State.STARTING, State.RUNNING)


def advance(old: State, new: State) -> State:
    """Return `new`. Raises `ValueError` where TRANSITIONS has no way from `old` to it: a bug of the caller."""
    if new not in TRANSITIONS[old]:
        raise ValueError(f"no transition from {old} to {new}")
    return new


def set_state(current: State, member: State) -> State:
    """The state of a set after one of its members moved to the state `member`; it never goes backwards."""
    if current.ended or member.ended:
        return current
    return max(current, member, key=_FORWARD.index)


def set_outcome(counts: Mapping[State, int], *, killed: bool) -> State:
    """The final state of a set whose members have all ended, `counts` of them in each state.

    A set that was killed as a whole is KILLED. Otherwise it is FINISHED if any member finished (a set does not fail
    because a sub-experiment did), FAILED if none finished and one failed, KILLED if every member was killed by itself.
    """
    if killed:
        return State.KILLED
    for outcome in (State.FINISHED, State.FAILED):
        if counts.get(outcome):
            return outcome
    return State.KILLED
