"""What the log streams ask of the daemon's records; each call is quick, on the daemon's thread."""

from typing import NamedTuple, Protocol

from riseml_proto.ids import CanonicalId, job_id
from riseml_proto.messages import ElidedEntry, EndEntry, HeadEntry, StateEntry
from riseml_proto.states import State


class Attempt(NamedTuple):
    """One attempt of a job whose output may be told, so not one that has yet to run.

    `began` is the `seq` of the event from which on its output is told: RUNNING, or the end of one
    that never ran. `ended` is the `seq` of the event before which all its output is told: a last
    state, or PENDING for a retry. An attempt is said to have ended only when nothing writes to its
    log any more.
    """

    experiment: int
    member: int
    """0 for an experiment that is no set, and for a set's own jobs."""
    job: str
    attempt: int
    log: str
    """Path of its log file, which need not exist."""
    began: int
    started_ms: int
    ended: int | None = None
    ended_ms: int | None = None

    @property
    def job_id(self) -> str:
        """`144.2.train`."""
        return job_id(self.experiment, self.member, self.job)

    @property
    def key(self) -> str:
        """What `LogRequest.offsets` calls it: `144.2.train/1`."""
        return f"{self.job_id}/{self.attempt}"


class Event(NamedTuple):
    """An experiment or sub-experiment came to be in `state`."""

    seq: int
    id: str
    """`144` or `144.2`."""
    state: State
    time_ms: int
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    attempt: Attempt | None = None
    """The attempt that begins or ends with this event: its `began` or `ended` is this `seq`."""


class LogSource(Protocol):
    """One daemon's records. What belongs to `target` is its own, and for a set its members'."""

    def head(self, target: CanonicalId) -> HeadEntry:
        """What a stream about `target` begins with."""

    def opening(self, target: CanonicalId) -> list[StateEntry | ElidedEntry]:
        """The states at submission, with `seq` 0; `events` has none of them."""

    def known(self, target: CanonicalId, limit: int) -> list[StateEntry | ElidedEntry]:
        """The states now: the `limit` that changed last, one by one, and the rest in numbers.

        Rising by `seq`, those with `seq` 0 (nothing happened to them since submission) and the
        elided ones first.
        """

    def events(self, target: CanonicalId, after: int, limit: int) -> list[Event]:
        """The first `limit` events with a higher `seq` than `after`, rising."""

    def attempts(self, target: CanonicalId, after: int, limit: int) -> list[Attempt]:
        """The first `limit` attempts that `began` at a higher `seq` than `after`, rising."""

    def standing(self, target: CanonicalId) -> EndEntry:
        """State of `target` and counts of its members, now."""
