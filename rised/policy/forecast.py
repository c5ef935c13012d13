"""When what waits is expected to start, by the time limits of what runs and what starts before it. Pure.

The queue's own law decides, again and again, on a machine that is thought on from one end to the next. Time limits are
upper bounds, so that things start earlier than this says rather than later; after what has no limit nothing is known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

from rised.policy.queue import Decision, Machine, Running, Waiting, decide, order, rate

_MOST_WORK = 100_000
"""Entries and runs that are looked at in all, each some microseconds."""
_STEP = 20  # what a step itself costs, in such


class Holder(NamedTuple):
    """`many` sub-experiments of one experiment that surely have ended at the same time, None where nobody knows."""

    entry: Waiting
    until: float | None
    many: int = 1


def forecast(
    waiting: Iterable[Waiting],
    remaining: Mapping[int, int],
    held: Iterable[Holder],
    machine: Machine,
    most_work: int = _MOST_WORK,
) -> dict[int, float | None]:
    """Experiment → seconds from now to the start of its next sub-experiment, None where nobody knows.

    They come in the order of their turns. `waiting` are all that have sub-experiments left to start, as many as
    `remaining` tells, those without slots, too; `held` is what runs.
    """
    entries = {entry.experiment: entry for entry in waiting}
    expected: dict[int, float | None] = {
        e.experiment: None for e in order(entries.values(), machine)
    }
    future = _Future(entries, remaining, held, machine)
    unknown = len(entries)
    while unknown and most_work > 0:
        most_work -= _STEP + future.size
        for number in future.start().start:
            if expected[number] is None:
                expected[number] = future.machine.now - machine.now
                unknown -= 1
        if not future.go_on():
            break
    return expected


class _Future:
    """The machine and the queue at some time to come."""

    def __init__(
        self,
        entries: dict[int, Waiting],
        remaining: Mapping[int, int],
        held: Iterable[Holder],
        machine: Machine,
    ) -> None:
        self.machine = machine
        self._entries = entries
        self._left = dict(remaining)
        self._serial = count()
        self._ends: list[tuple[float, int, Holder]] = []
        for one in held:
            until = one.until
            sure = inf if until is None or until < machine.now else until
            self._ends.append((sure, next(self._serial), one))
        heapify(self._ends)

    @property
    def size(self) -> int:
        """How many things a step looks at."""
        return len(self._entries) + len(self._ends)

    def start(self) -> Decision:
        """Let the law start what it does now."""
        machine = self.machine
        able = (entry for entry in self._entries.values() if entry.slots)
        decision = decide(able, machine)
        free, held = machine.free, Counter(machine.held)
        for number, started in decision.start.items():
            entry = self._entries[number]
            until = inf if entry.longest is None else machine.now + entry.longest
            heappush(self._ends, (until, next(self._serial), Holder(entry, until, started)))
            for _ in range(started):
                free = free.less(entry.request)
            held.update(dict.fromkeys(entry.accounts, entry.request.gpus * started))
            self._left[number] -= started
            self._entries[number] = entry._replace(slots=entry.slots - started)
        self.machine = machine._replace(
            free=free,
            held=held,
            reserved=decision.reserved,
            served={**machine.served, **dict.fromkeys(decision.served, machine.now)},
        )
        return decision

    def go_on(self) -> bool:
        """Come to the time at which something surely ends; False where nothing does."""
        machine = self.machine
        if not self._ends or self._ends[0][0] == inf:
            return False
        now = self._ends[0][0]
        free, held, use = machine.free, Counter(machine.held), dict(machine.use)
        for _, _, (entry, _, number) in self._ends:
            spent = number * rate(entry.request) * (now - machine.now)
            use[entry.user] = use.get(entry.user, 0.0) + spent
        while self._ends and self._ends[0][0] == now:
            _, _, (entry, _, number) = heappop(self._ends)
            for _ in range(number):
                free = free.plus(entry.request)
            held.subtract(dict.fromkeys(entry.accounts, entry.request.gpus * number))
            self._open_slots(entry.experiment, number)
        running = [
            Running(entry.request, None if until == inf else until)
            for until, _, (entry, _, number) in self._ends
            for _ in range(number)
        ]
        self.machine = machine._replace(free=free, now=now, running=running, use=use, held=held)
        return True

    def _open_slots(self, experiment: int, number: int) -> None:
        entry = self._entries.get(experiment)
        if entry is not None:
            slots = min(entry.slots + number, self._left[experiment])
            self._entries[experiment] = entry._replace(slots=slots)
