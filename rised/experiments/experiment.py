"""An unfinished experiment in memory: what it is, which members run and which have still to start.

What members have already done is in the database alone, so that a set of a million costs what a set of eight costs.
"""

import heapq
import json
from functools import cached_property
from typing import Protocol

import trio

from rised.experiments.configuration_file import ConfigurationFile
from rised.linux.processes import ProcessSnapshot
from rised.linux.usage import Use
from rised.policy.outcome import KillMode
from rised.policy.resources import ResourceRequest
from rised.storage.rows import ExperimentRow
from riseml_proto.config import Config
from riseml_proto.errors import NotFound
from riseml_proto.states import State
from riseml_proto.waiting import WaitReason


class Stoppable(Protocol):
    """Something that runs for an experiment."""

    def kill(self, mode: KillMode) -> None:
        """Make it end soon; returns at once."""
        ...


class RunningMember(Stoppable, Protocol):
    """A member that holds what it was granted."""

    gpus: tuple[int, ...]
    """The indices of its GPUs."""
    wait_reason: WaitReason | None
    """What keeps it from starting again."""

    def use(self, snapshot: ProcessSnapshot) -> Use:
        """What its processes in `snapshot` use now. Blocks for milliseconds: call it in another thread."""
        ...


class Experiment:
    """One unfinished experiment or set.

    Members start in the order of their numbers, but for those that are pushed back, which come first.
    """

    def __init__(self, row: ExperimentRow, config: Config, *, frontier: int) -> None:
        """`frontier`: the member after the last that was ever started; 1, or 0 if it is no set, where none was."""
        self.row = row
        self.number = row.id
        self.is_set = row.members > 0
        self.config = config
        self.state = row.state
        self.limiter = trio.CapacityLimiter(self.concurrency)
        self.request = ResourceRequest(config.cpus, config.mem, config.gpus)
        self.running: dict[int, RunningMember] = {}
        self.active: dict[int, State] = {}
        """State of each member that has a row and has not ended."""
        self.ended = {
            State.FINISHED: row.finished,
            State.FAILED: row.failed,
            State.KILLED: row.killed,
        }
        self.building: Stoppable | None = None
        """The build of its image, while that runs."""
        self.build_attempt = 0
        """Number of the build that runs; 0 where none does."""
        self.done = trio.Event()
        self.member_done: dict[int, trio.Event] = {}
        self._next = frontier
        self._again: list[int] = []
        self._skip: set[int] = set()

    @property
    def concurrency(self) -> int:
        """How many members may run at once."""
        return min(self.row.concurrency or self.config.concurrency, self.row.members or 1)

    @cached_property
    def configuration(self) -> ConfigurationFile:
        """Writes its members' `riseml-configuration.yml`."""
        return ConfigurationFile(self.config, self.row.revision)

    @cached_property
    def env(self) -> dict[str, str]:
        """The submitter's environment, as far as jobs get it."""
        return dict(json.loads(self.row.env))

    def params(self, member: int) -> dict[str, str]:
        """Parameter → value of one member, as written."""
        return self.config.parameters.params(member)

    @property
    def remaining(self) -> int:
        """How many members have still to be started."""
        return max(0, self.row.members + 1 - self._next) - len(self._skip) + len(self._again)

    @property
    def head(self) -> int | None:
        """The member that starts next."""
        if self._again:
            return self._again[0]
        while self._next in self._skip:
            self._skip.remove(self._next)
            self._next += 1
        return self._next if self._next <= self.row.members else None

    @property
    def next_untouched(self) -> int | None:
        """The member that starts next, if it never started before."""
        return None if self._again or self.building else self.head

    def pop(self) -> int:
        """Take the head: it starts now."""
        head = self.head
        assert head is not None
        if self._again:
            heapq.heappop(self._again)
        else:
            self._next += 1
        return head

    def push(self, member: int) -> None:
        """Start `member` again, before all that have not started."""
        heapq.heappush(self._again, member)

    def not_started(self, member: int) -> bool:
        """Whether `member` has still to be started."""
        return member in self._again or (member >= self._next and member not in self._skip)

    def skip(self, member: int) -> None:
        """Never start `member`."""
        if member in self._again:
            self._again.remove(member)
            heapq.heapify(self._again)
        else:
            self._skip.add(member)

    def skip_all(self) -> None:
        """Start no more."""
        self._next = self.row.members + 1
        self._again.clear()
        self._skip.clear()

    @property
    def slots(self) -> int:
        """How many members may start now if nothing but the experiment's own concurrency limits them."""
        if self.building:
            return 0
        return max(0, min(int(self.limiter.available_tokens), self.remaining))


def check_member(count: int, number: int, member: int | None) -> None:
    """Raise `NotFound` unless an experiment with `count` sub-experiments has `member`."""
    if member is None or 1 <= member <= count:
        return
    if not count:
        raise NotFound(f"experiment {number} has no sub-experiments; say {number}")
    raise NotFound(f"there is no {number}.{member}: {number} has {count} sub-experiments")
