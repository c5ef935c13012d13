"""Rows of the database as plain data, and the changes that are written to it."""

from typing import NamedTuple

from rised.policy.outcome import KillMode
from riseml_proto.states import State


class ExperimentRow(NamedTuple):
    """One experiment or set. `id` is 0 before it is added; `members` is 0 for one without parameters."""

    id: int
    user: str
    uid: int
    project: str
    revision: str
    config: str
    config_file: str
    env: str
    members: int
    state: State
    created_ms: int
    reason: str | None = None
    kill: KillMode = KillMode.NONE
    finished: int = 0
    failed: int = 0
    killed: int = 0
    ended_ms: int | None = None
    first_seq: int = 0
    """All its events come after this one."""
    last_seq: int | None = None
    """The last of its events, once it has ended."""
    image: str | None = None
    """ID of the image that its jobs run in, once there is one."""
    builds: int = 0
    """Whether an image had to be pulled or built for it: 1, else 0."""
    owner: str | None = None
    """JSON of an `Owner`: the rights its jobs run with. None in a person's own daemon."""
    priority: int = 0
    """Among those of its user, the highest goes first."""
    paused: int = 0
    """1 while nothing more of it is to start, else 0."""
    concurrency: int | None = None
    """How many may run at once; None: as its riseml.yml says."""


class MemberRow(NamedTuple):
    """One sub-experiment to which something has happened."""

    experiment: int
    member: int
    state: State
    attempt: int = 0
    failures: int = 0
    """Attempts that failed; `retries` bounds them. A start that a crash prevented is an attempt, not a failure."""
    gpus: str = "[]"
    """JSON: list of `[index, uuid or null]`."""
    handle: str | None = None
    """Identity of the job, by which its runner finds it after a restart: see `runners.identity`."""
    kill: KillMode = KillMode.NONE
    exit_code: int | None = None
    reason: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    results: str | None = None
    """JSON: the last value of each result that it reported, once it has ended."""


TRAIN = "train"
"""The job of a member."""
BUILD, BOARD = "build", "tensorboard"
"""The jobs that an experiment has beside those of its members."""


class JobRow(NamedTuple):
    """One job of an experiment beside those of its members: the build of its image, or its TensorBoard."""

    experiment: int
    job: str
    """`BUILD` or `BOARD`."""
    attempt: int
    started_ms: int
    handle: str | None = None
    """Identity of the job, as in `MemberRow`."""
    exit_code: int | None = None
    ended_ms: int | None = None


class MemberChange(NamedTuple):
    """A change of state at `time_ms`; `row` has the new one. Member 0 of a set is the set itself."""

    row: MemberRow
    time_ms: int
    message: str | None = None
    ran_since_ms: int | None = None
    """Begin of the attempt that the change ends, if its user is to be charged for it."""


class EventRow(NamedTuple):
    """One change of state; `seq` rises over all experiments. Member 0 is the experiment or set itself."""

    seq: int
    experiment: int
    member: int
    state: State
    attempt: int
    time_ms: int
    reason: str | None
    message: str | None
    exit_code: int | None


def file_beside(row: ExperimentRow) -> str:
    """Name of the experiment's riseml.yml among the project's files; empty where it is elsewhere."""
    return row.config_file if "/" not in row.config_file else ""
