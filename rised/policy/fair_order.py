"""The fair-share order: whose turn it is. Pure.

**Between users**, the one with the least GPU time used goes first; of equals, the one whose experiment has the lower
number. A job that starts charges its user `QUANTUM` seconds at once, and then the next user is chosen again. So users
who come together share a free machine from the first minute.

**Within a user**, higher priority goes first, then the lower number.

**Two exceptions keep everybody from starving.** The reserved user goes before all others: that is the user of the first
job that did not fit, until that job has started. Next come users none of whose jobs has started for
`STARVATION_SECONDS`, the one who has waited longest first.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from math import inf

from rised.policy.workload import Machine, Waiting, billed_gpus

QUANTUM = 60.0
"""Seconds of use that a job is charged as it starts."""
STARVATION_SECONDS = 86_400.0
"""How long a user waits before their usage counts no more."""


def fair_order(waiting: Iterable[Waiting], machine: Machine) -> Iterator[Waiting]:
    """Yield each of `waiting` once, in the order in which they would start if there were room for one of each."""
    order = FairShareOrder(waiting, machine, once=True)
    for entry in order:
        yield entry
        order.charge()


class FairShareOrder:
    """Yields the entry whose turn it is, again and again, and is told what became of it.

    Unless `charge` is called for an entry, it has had its last turn in this round.
    """

    def __init__(self, waiting: Iterable[Waiting], machine: Machine, *, once: bool = False) -> None:
        """With `once` each entry starts at most once, however many slots it has."""
        queues: dict[int, list[Waiting]] = {}
        for entry in waiting:
            queues.setdefault(entry.user, []).append(entry)
        for queue in queues.values():
            queue.reverse()  # the next one is the last, where `pop` costs nothing
            if any(entry.priority for entry in queue):
                queue.sort(key=lambda entry: entry.priority)  # stable
        self._queues = queues
        self._usage = {user: machine.usage.get(user, 0.0) for user in queues}
        self._machine = machine
        self._once = once
        self._charged = self._passed_over = False

    def charge(self) -> None:
        """Charge the user of the last entry a quantum: it has started."""
        self._charged = True

    def pass_over(self) -> None:
        """Give the user of the last entry the next turn, too."""
        self._passed_over = True

    def __iter__(self) -> Iterator[Waiting]:
        usage = self._usage
        heap = [self._first_turn(user, queue[-1]) for user, queue in self._queues.items()]
        heapify(heap)
        while heap:
            user = heappop(heap)[-1]
            queue = self._queues[user]
            while queue:
                entry = queue.pop()
                yield entry
                if self._charged:
                    self._charged = False
                    usage[user] += QUANTUM * billed_gpus(entry.request)
                    if entry.slots > 1 and not self._once:
                        queue.append(entry._replace(slots=entry.slots - 1))
                elif self._passed_over:
                    self._passed_over = False
                    continue
                if heap and queue:
                    turn: tuple[float, float, int] = usage[user], queue[-1].experiment, user
                    if heap[0] < turn:
                        heappush(heap, turn)
                        break

    def _first_turn(self, user: int, entry: Waiting) -> tuple[float, float, int]:
        """The sort key of a user whose next entry is `entry`: the lowest goes first."""
        machine = self._machine
        if user == machine.reserved_user:
            return -inf, -inf, user
        since = max(entry.eligible_since, machine.last_dispatch.get(user, -inf))
        if machine.now - since >= STARVATION_SECONDS:
            return -inf, since, user
        return self._usage[user], entry.experiment, user
