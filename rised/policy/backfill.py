"""Backfilling: jobs behind one that does not fit start where they delay nobody. Pure.

This is EASY backfilling, in the fair-share order, with three resources instead of one.

**The head** is the first job in the order that does not fit. Its **shadow time** is the earliest time at which it
surely fits, by the time limits of what runs. The **extra capacity** is what is then left beside it. A job behind the
head starts if it fits now and either surely ends by the shadow time or fits into the extra capacity. So it never
delays the head. Where a job without a time limit hides the shadow time, the extra capacity is what the head cannot take
of the free capacity.

**Reservations.** EASY protects the head alone. Here each later job that does not start also reserves what it could
already take, so that smaller ones cannot overtake it for ever. Only a job that surely ends before the earliest start
of a reservation's owner may use what is reserved.
"""

from bisect import bisect_left
from math import inf
from operator import add

from rised.policy.resources import Capacity, ResourceRequest, shortages
from rised.policy.workload import Machine, Waiting
from riseml_proto.waiting import LacksResources

_MAX_RESERVATIONS = 8
"""Distinct earliest starts. A later one shares the reservation with the nearest lower start, which is stricter."""


class Reservation:
    """What some jobs behind the head could already take."""

    def __init__(self, earliest_start: float) -> None:
        """`earliest_start`, in seconds from now, is that of all its owners; -inf where none is known."""
        self.earliest_start = earliest_start
        self.request = ResourceRequest()

    def add(self, request: ResourceRequest, available: Capacity) -> Capacity | None:
        """Reserve what `request` can take of `available`. Return the rest; None if it can take nothing."""
        taken = ResourceRequest._make(map(min, request, available))
        if not any(taken):
            return None
        self.request = ResourceRequest(*map(add, self.request, taken))
        return available.minus(taken)


class BackfillPlan:
    """Starts jobs one after the other, in the order of the queue, and reserves for those that do not fit."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._free = machine.free
        self._head: ResourceRequest | None = None
        self._shadow_time = -inf
        """Seconds from now; -inf where no time limits tell it."""
        self._extra: Capacity | None = None
        """Computed when a job behind the head first asks for it."""
        self._started: list[tuple[float, ResourceRequest]] = []
        self._releases: list[tuple[float, Capacity]] = []
        """Seconds from now → what is surely free then if nothing else starts, ascending."""
        self._reservations: list[Reservation] = []
        self._refused: dict[
            tuple[ResourceRequest, float | None], tuple[Capacity | None, Reservation]
        ] = {}
        self._lacks: dict[ResourceRequest, LacksResources | None] = {}

    def start(self, entry: Waiting) -> bool:
        """Start one job of `entry` if it delays nobody before it; else reserve for it."""
        request, shape = entry.request, (entry.request, entry.max_runtime)
        # A shape that was refused once never fits later in the same plan: capacity only shrinks.
        if refused := self._refused.get(shape):
            available, reservation = refused
            if available:
                self._refused[shape] = reservation.add(request, available), reservation
            return False
        max_runtime = inf if entry.max_runtime is None else entry.max_runtime
        available = self._available(max_runtime)
        if available.fits(request):
            self._take(request, max_runtime)
            return True
        if self._head is None:
            self._head = request
        else:
            reservation = self._reservation(request)
            self._refused[shape] = reservation.add(request, available), reservation
        return False

    def lacks(self, request: ResourceRequest) -> LacksResources | None:
        """What is not free of `request`; None where it is free but reserved."""
        if request not in self._lacks:
            missing = shortages(request, self._free)
            self._lacks[request] = LacksResources(missing) if missing else None
        return self._lacks[request]

    def _take(self, request: ResourceRequest, max_runtime: float) -> None:
        self._free = self._free.minus(request)
        self._lacks.clear()
        if self._head is None:
            self._started.append((max_runtime, request))
        elif max_runtime > self._shadow_time:
            assert self._extra is not None
            self._extra = self._extra.minus(request)

    def _available(self, max_runtime: float) -> Capacity:
        """What a job may take that runs so many seconds at most."""
        if self._head is None:
            return self._free
        if self._extra is None:
            self._extra = self._find_shadow_time(self._head)
        free, extra = self._free, self._extra
        if max_runtime > self._shadow_time:
            free = Capacity._make(map(min, free, extra))
        for reservation in self._reservations:
            if max_runtime > reservation.earliest_start:
                free = free.minus(reservation.request)
        return free

    def _find_shadow_time(self, head: ResourceRequest) -> Capacity:
        """Set the shadow time of `head` and return the extra capacity."""
        now, free = self._machine.now, self._free
        ends = [
            (run.ends_by - now, run.request)
            for run in self._machine.running
            if run.ends_by is not None and run.ends_by >= now  # an overdue end is none to count on
        ]
        ends += [(end, request) for end, request in self._started if end < inf]
        self._releases.append((0.0, free))
        for end, request in sorted(ends):
            free = free.plus(request)
            if self._releases[-1][0] == end:
                self._releases.pop()
            self._releases.append((end, free))
        self._shadow_time, free = self._earliest_start(head) or (-inf, self._free)
        return free.minus(head)

    def _earliest_start(self, request: ResourceRequest) -> tuple[float, Capacity] | None:
        """When `request` surely fits if nothing else starts, and what is free then."""
        index = bisect_left(self._releases, True, key=lambda release: release[1].fits(request))
        return self._releases[index] if index < len(self._releases) else None

    def _reservation(self, request: ResourceRequest) -> Reservation:
        """The reservation of all that could start as early as `request`."""
        release = self._earliest_start(request)
        start = release[0] if release else -inf
        earlier = [one for one in self._reservations if one.earliest_start <= start]
        nearest = max(earlier, key=lambda one: one.earliest_start, default=None)
        full = len(self._reservations) >= _MAX_RESERVATIONS
        if nearest and (nearest.earliest_start == start or full):
            return nearest
        self._reservations.append(Reservation(-inf if full else start))
        return self._reservations[-1]
