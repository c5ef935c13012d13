"""An unfinished experiment as the scheduler holds it in memory: how far it is, never what it has already done."""

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
from riseml_proto.config import Config, parse_config
from riseml_proto.errors import NotFound
from riseml_proto.states import State


class Stoppable(Protocol):
    """What can be made to end."""

    def kill(self, mode: KillMode) -> None:
        """Make it end."""
        ...


class RunningMember(Protocol):
    """A member that runs."""

    @property
    def gpus(self) -> tuple[int, ...]:
        """The indices of its GPUs."""
        ...

    def use(self, snapshot: ProcessSnapshot) -> Use:
        """What its processes use, found by `look`, now. Blocks for milliseconds: for another thread."""
        ...

    def kill(self, mode: KillMode) -> None:
        """Make it end."""
        ...


class Experiment:
    """One unfinished experiment or set."""

    def __init__(self, row: ExperimentRow, config: Config, *, frontier: int) -> None:
        """`frontier` is the first member that nothing has happened to and nothing comes after (0 or 1 at first)."""
        self.row = row
        self.config = config
        self.state = row.state
        self.limiter = trio.CapacityLimiter(self.concurrency)
        self.request = ResourceRequest(config.cpus, config.mem, config.gpus)
        self.running: dict[int, RunningMember] = {}
        self.active: dict[int, State] = {}
        """The members that something has happened to and that have not ended."""
        self.ended = {
            State.FINISHED: row.finished,
            State.FAILED: row.failed,
            State.KILLED: row.killed,
        }
        self.building: Stoppable | None = None
        """What makes its image, as long as it has none."""
        self.build_attempt = 0
        """Number of the build that runs; 0 where none does."""
        self.done = trio.Event()
        self.member_done: dict[int, trio.Event] = {}
        self._next = frontier
        self._again: list[int] = []
        self._skip: set[int] = set()

    @classmethod
    def load(cls, row: ExperimentRow, *, frontier: int) -> "Experiment":
        """The same from its row alone."""
        return cls(row, parse_config(row.config, row.config_file), frontier=frontier)

    @property
    def number(self) -> int:
        """Its number."""
        return self.row.id

    @property
    def is_set(self) -> bool:
        """Whether it has sub-experiments."""
        return self.row.members > 0

    @property
    def concurrency(self) -> int:
        """How many members may run at once."""
        return min(self.row.concurrency or self.config.concurrency, self.row.members or 1)

    def change(self, row: ExperimentRow) -> None:
        """Take on another priority, pause or concurrency, as the database has them now."""
        self.row = row
        self.limiter.total_tokens = self.concurrency

    @cached_property
    def configuration(self) -> ConfigurationFile:
        """What its members' `riseml-configuration.yml` say."""
        return ConfigurationFile(self.config, self.row.revision)

    @cached_property
    def env(self) -> dict[str, str]:
        """The submitter's environment, as far as jobs get it."""
        return dict(json.loads(self.row.env))

    def params(self, member: int) -> dict[str, str]:
        """Parameter → value of one member, as written."""
        return self.config.parameters.params(member)

    @property
    def last(self) -> int:
        """The last member's number; 0 where there are no sub-experiments."""
        return self.row.members

    @property
    def remaining(self) -> int:
        """How many members have still to be started."""
        return max(0, self.last + 1 - self._next) - len(self._skip) + len(self._again)

    @property
    def head(self) -> int | None:
        """The member that starts next."""
        if self._again:
            return self._again[0]
        while self._next in self._skip:
            self._skip.remove(self._next)
            self._next += 1
        return self._next if self._next <= self.last else None

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
        self._next = self.last + 1
        self._again.clear()
        self._skip.clear()

    @property
    def slots(self) -> int:
        """How many members may start now, as far as it is for the experiment itself."""
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
