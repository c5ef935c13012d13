"""When each waiting experiment is expected to start, from the time limits of what runs and what starts before it. Pure.

The forecast simulates the machine from one job's end to the next, and lets the queue's own law decide each time. Time
limits are upper bounds, so things start earlier than forecast rather than later. After a job without a time limit
nothing is known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

from rised.policy.fair_order import fair_order
from rised.policy.queue import Decision, decide
from rised.policy.workload import Machine, Running, Waiting, billed_gpus

_MAX_WORK = 100_000
"""Entries and runs that all steps together look at; each takes some microseconds."""
_STEP_WORK = 20
"""What a step costs besides, in the same unit."""


class RunningBatch(NamedTuple):
    """Sub-experiments of one experiment that run and have surely ended at the same time."""

    entry: Waiting
    ends_by: float | None
    """None: no limit is known."""
    size: int = 1


def forecast(
    waiting: Iterable[Waiting],
    remaining: Mapping[int, int],
    running: Iterable[RunningBatch],
    machine: Machine,
) -> dict[int, float | None]:
    """Experiment → seconds from now to the start of its next sub-experiment, None where nobody knows.

    They come in the fair-share order. `waiting` are all that have sub-experiments left to start, `remaining` tells how
    many; those without free slots are among them.
    """
    entries = {entry.experiment: entry for entry in waiting}
    expected: dict[int, float | None] = {
        entry.experiment: None for entry in fair_order(entries.values(), machine)
    }
    simulation = _Simulation(entries, remaining, running, machine)
    unknown, work_left = len(entries), _MAX_WORK
    while unknown and work_left > 0:
        work_left -= _STEP_WORK + simulation.size
        for number in simulation.start_jobs().start:
            if expected[number] is None:
                expected[number] = simulation.machine.now - machine.now
                unknown -= 1
        if not simulation.advance():
            break
    return expected


class _Simulation:
    """The machine and the queue at some time to come."""

    def __init__(
        self,
        entries: dict[int, Waiting],
        remaining: Mapping[int, int],
        running: Iterable[RunningBatch],
        machine: Machine,
    ) -> None:
        self.machine = machine
        self._entries = entries
        self._remaining = dict(remaining)
        self._serial = count()
        self._ends: list[tuple[float, int, RunningBatch]] = []
        for batch in running:
            ends_by = batch.ends_by
            self._push(inf if ends_by is None or ends_by < machine.now else ends_by, batch)

    @property
    def size(self) -> int:
        """How many things a step looks at."""
        return len(self._entries) + len(self._ends)

    def start_jobs(self) -> Decision:
        """Start what the law starts now."""
        machine = self.machine
        decision = decide((entry for entry in self._entries.values() if entry.slots), machine)
        free, held = machine.free, Counter(machine.gpus_held)
        for number, started in decision.start.items():
            entry = self._entries[number]
            ends_by = inf if entry.max_runtime is None else machine.now + entry.max_runtime
            self._push(ends_by, RunningBatch(entry, ends_by, started))
            for _ in range(started):
                free = free.minus(entry.request)
            held.update(dict.fromkeys(entry.accounts, entry.request.gpus * started))
            self._remaining[number] -= started
            self._entries[number] = entry._replace(slots=entry.slots - started)
        dispatched = dict.fromkeys(decision.dispatched_users, machine.now)
        self.machine = machine._replace(
            free=free,
            gpus_held=held,
            reserved_user=decision.reserved_user,
            last_dispatch={**machine.last_dispatch, **dispatched},
        )
        return decision

    def advance(self) -> bool:
        """Go to the time at which the next job surely ends; return False where none does."""
        machine = self.machine
        if not self._ends or self._ends[0][0] == inf:
            return False
        now = self._ends[0][0]
        free, held, usage = machine.free, Counter(machine.gpus_held), dict(machine.usage)
        for _, _, (entry, _, size) in self._ends:
            used = size * billed_gpus(entry.request) * (now - machine.now)
            usage[entry.user] = usage.get(entry.user, 0.0) + used
        while self._ends and self._ends[0][0] == now:
            _, _, (entry, _, size) = heappop(self._ends)
            for _ in range(size):
                free = free.plus(entry.request)
            held.subtract(dict.fromkeys(entry.accounts, entry.request.gpus * size))
            if waiting := self._entries.get(entry.experiment):
                slots = min(waiting.slots + size, self._remaining[entry.experiment])
                self._entries[entry.experiment] = waiting._replace(slots=slots)
        running = [
            Running(entry.request, None if ends_by == inf else ends_by)
            for ends_by, _, (entry, _, size) in self._ends
            for _ in range(size)
        ]
        self.machine = machine._replace(
            free=free, now=now, running=running, usage=usage, gpus_held=held
        )
        return True

    def _push(self, ends_by: float, batch: RunningBatch) -> None:
        heappush(self._ends, (ends_by, next(self._serial), batch))
