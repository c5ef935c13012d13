"""What a stream of a log asks of the daemon's records. Each call is quick, in the daemon's thread."""

from typing import NamedTuple, Protocol

from riseml_proto.ids import CanonicalId, job_id
from riseml_proto.messages import ElidedEntry, EndEntry, HeadEntry, StateEntry


class Attempt(NamedTuple):
    """One attempt of a job that runs or has ended, so that its output may be sent."""

    experiment: int
    member: int
    """0 for an experiment that is no set, and for a set's own jobs."""
    job: str
    attempt: int
    log: str
    """Path of its log file, which need not exist."""
    began: int
    """`seq` of the event after which its output is sent: RUNNING, or the end of an attempt that never ran."""
    started_ms: int
    ended: int | None = None
    """`seq` of the event before which all its output is sent: a last state, or PENDING for a retry. Then nothing writes
    to its log any more."""
    ended_ms: int | None = None

    @property
    def job_id(self) -> str:
        """The job's ID, such as `144.2.train`."""
        return job_id(self.experiment, self.member, self.job)

    @property
    def key(self) -> str:
        """The attempt's name in `LogRequest.offsets`, such as `144.2.train/1`."""
        return f"{self.job_id}/{self.attempt}"


class Event(NamedTuple):
    """An experiment or sub-experiment entered a state."""

    entry: StateEntry
    """What is sent of it."""
    time_ms: int
    attempt: Attempt | None = None
    """The attempt that begins or ends with this event: its `began` or `ended` is the `seq` of the entry."""


class LogSource(Protocol):
    """One daemon's records. The records of a set include its members'."""

    def head(self, target: CanonicalId) -> HeadEntry:
        """The first entry of a stream about `target`."""

    def opening(self, target: CanonicalId) -> list[StateEntry | ElidedEntry]:
        """The states at submission, with `seq` 0; `events` has none of them."""

    def known(self, target: CanonicalId, limit: int) -> list[StateEntry | ElidedEntry]:
        """The states of now: the `limit` that changed last one by one, the others as counts.

        They rise by `seq`. The counts, and the states with `seq` 0 (not changed since submission), come first.
        """

    def events(self, target: CanonicalId, after: int, limit: int) -> list[Event]:
        """The first `limit` events with a `seq` above `after`, rising."""

    def attempts(self, target: CanonicalId, after: int, limit: int) -> list[Attempt]:
        """The first `limit` attempts that `began` above `after`, rising."""

    def standing(self, target: CanonicalId) -> EndEntry:
        """The state of `target` and the counts of its members, as they are now."""
