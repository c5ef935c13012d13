"""Who starts next. Pure: no clock, no I/O.

The law. **Between users**, who has used least GPU time goes first; of equals, whose experiment has the lower number.
One sub-experiment starts, its user is charged a quantum at once, and whose turn it is is asked again, so that
newcomers share a free machine. **Within a user**, higher priority goes first, then the lower number.

**Nobody starves.** The first whose turn it is and who does not fit makes its user `reserved`: first of all from then
on, whoever comes and however little they have used, until the user's first in line has started. And who has had no turn
for a day is next after that, of several who has waited longest.

**What is put aside.** For the first that does not fit there may be a time T, within which the time limits of what runs
free enough for it. Then it needs aside only what T does not bring, and what surely ends by T may take even that. Where
no such T is known, all that it could already take is put aside, and so it is for all others that do not fit; only what
ends before another could start at the earliest may take what is aside for that one. So small ones fill gaps where they
delay nobody, and need a time limit for that.

**Quotas.** Who would hold more GPUs than one of their accounts may is passed over and keeps nothing from others, but
from those of the same account it does, or small ones of that account would overtake a large one for ever.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from math import inf
from operator import add
from typing import NamedTuple

from rised.policy.resources import Capacity, ResourceRequest, shortages
from riseml_proto.waiting import (
    BehindExperiment,
    LacksResources,
    Paused,
    QuotaReached,
    ServerDrained,
    WaitReason,
)

QUANTUM = 60.0
"""Seconds of use that count at once for what starts."""
PATIENCE = 86_400.0
"""Seconds after which a user who waits has a turn, whatever they have used."""
_WITHOUT_GPUS = 0.01  # of a GPU
_MOST_TIMES = 8
"""Times that are told apart among those at which others could start; a later one counts as the next lower."""


def rate(request: ResourceRequest) -> float:
    """What one that runs uses, in GPUs: one without any counts as a hundredth."""
    return max(request.gpus, _WITHOUT_GPUS)


class Waiting(NamedTuple):
    """An experiment with sub-experiments left to start, `slots` of them now as far as its concurrency goes."""

    experiment: int
    request: ResourceRequest
    slots: int
    user: int = 0
    accounts: tuple[str, ...] = ()
    """Whose quotas it counts for: `user:paul`, `group:students`."""
    priority: int = 0
    longest: float | None = None
    """Seconds after its start at which a sub-experiment has surely ended; None where nobody knows."""
    paused: bool = False
    since: float = inf
    """When the next of its sub-experiments could have started first, but for what it waits for now."""


class Running(NamedTuple):
    """A sub-experiment that holds something."""

    request: ResourceRequest
    """What will be free when it ends."""
    until: float | None
    """When it has surely ended; None where nobody knows."""


class Machine(NamedTuple):
    """All that decides beside the queue. Times are seconds, on any clock that `now` is of, too."""

    free: Capacity
    now: float = 0.0
    running: Collection[Running] = ()
    use: Mapping[int, float] = {}
    """User → GPU-seconds used, as far as they still count; who is not in it has used nothing."""
    caps: Mapping[str, int] = {}
    """Account → GPUs that it may hold at once; who is not in it may hold all."""
    held: Mapping[str, int] = {}
    """Account → GPUs that it holds."""
    reserved: int | None = None
    """The user who is first whatever they have used, as the last decision said."""
    served: Mapping[int, float] = {}
    """User → when they last had a turn, as the decisions until now said."""
    drained: str | None = None
    """Why nothing starts at all."""


class Decision(NamedTuple):
    """`start`: how many of each experiment start now. `reasons`: what those wait for that could go on but do not.

    Both are in the order of their turns. `reserved` and `served`, who had a turn now, are for the next decision.
    """

    start: dict[int, int]
    reasons: dict[int, WaitReason]
    reserved: int | None = None
    served: frozenset[int] = frozenset()


def decide(waiting: Iterable[Waiting], machine: Machine) -> Decision:
    """Apply the law to `waiting`, which must come in order of experiment numbers."""
    if machine.drained is not None:
        drained: WaitReason = ServerDrained(machine.drained)
        return Decision({}, {entry.experiment: drained for entry in waiting}, machine.reserved)
    start: dict[int, int] = {}
    reasons: dict[int, WaitReason] = {}
    able = []
    for entry in waiting:
        if entry.paused:
            reasons[entry.experiment] = Paused(entry.experiment)
        elif entry.slots:
            able.append(entry)
    places, allowances = _Places(machine), _Allowances(machine)
    first: Waiting | None = None
    behind: WaitReason | None = None
    served: set[int] = set()
    halted: set[int] = set()
    turns = _FairShareOrder(able, machine)
    for entry in turns:
        number = entry.experiment
        if quota := allowances.lack(entry):
            reasons[number] = quota
            turns.keep()
        elif places.take(entry):
            start[number] = start.get(number, 0) + 1
            allowances.take(entry)
            turns.start()
            if entry.user not in halted:
                served.add(entry.user)
        else:
            first = first or entry
            behind = behind or BehindExperiment(number)
            halted.add(entry.user)
            reasons[number] = places.lack(entry.request) or behind
    return Decision(start, reasons, first.user if first else None, frozenset(served))


def order(waiting: Iterable[Waiting], machine: Machine) -> Iterator[Waiting]:
    """Yield each of `waiting` once, as their turns would come if there were room for one of each."""
    turns = _FairShareOrder(waiting, machine, once=True)
    for entry in turns:
        yield entry
        turns.start()


class _FairShareOrder:
    """Whose turn it is, again and again. One that was not said to `start` on its turn has no other."""

    def __init__(self, waiting: Iterable[Waiting], machine: Machine, *, once: bool = False) -> None:
        """With `once` each starts no more than once."""
        lines: dict[int, list[Waiting]] = {}
        for entry in waiting:
            lines.setdefault(entry.user, []).append(entry)
        for line in lines.values():
            line.reverse()  # the next one is the last
            if any(entry.priority for entry in line):
                line.sort(key=lambda entry: entry.priority)  # stable
        self._lines = lines
        self._use = {user: machine.use.get(user, 0.0) for user in lines}
        self._machine = machine
        self._once = once
        self._started = self._kept = False

    def start(self) -> None:
        """The one whose turn it is has started."""
        self._started = True

    def keep(self) -> None:
        """The one whose turn it is is passed over, but its user has the next turn, too."""
        self._kept = True

    def __iter__(self) -> Iterator[Waiting]:
        use = self._use
        heap = [self._first_turn(user, line[-1]) for user, line in self._lines.items()]
        heapify(heap)
        while heap:
            user = heappop(heap)[-1]
            line = self._lines[user]
            while line:
                entry = line.pop()
                yield entry
                if self._started:
                    self._started = False
                    use[user] += QUANTUM * rate(entry.request)
                    if entry.slots > 1 and not self._once:
                        line.append(entry._replace(slots=entry.slots - 1))
                elif self._kept:
                    self._kept = False
                    continue
                if heap and line:
                    turn: tuple[float, float, int] = use[user], line[-1].experiment, user
                    if heap[0] < turn:
                        heappush(heap, turn)
                        break

    def _first_turn(self, user: int, entry: Waiting) -> tuple[float, float, int]:
        """What decides when a user's first in line has its turn: the lowest is first."""
        machine = self._machine
        if user == machine.reserved:
            return -inf, -inf, user
        since = max(entry.since, machine.served.get(user, -inf))
        if machine.now - since >= PATIENCE:
            return -inf, since, user
        return self._use[user], entry.experiment, user


class _Allowances:
    """How many more GPUs each account may take."""

    def __init__(self, machine: Machine) -> None:
        self._caps = machine.caps
        self._left = {
            account: cap - machine.held.get(account, 0) for account, cap in machine.caps.items()
        }

    def lack(self, entry: Waiting) -> QuotaReached | None:
        """Whose others must end before `entry` may start, if any; what it could take of theirs is kept for it."""
        gpus = entry.request.gpus
        if not gpus or not self._caps:
            return None
        lacking = [name for name in entry.accounts if gpus > self._left.get(name, gpus)]
        if not lacking:
            return None
        for name in lacking:
            if gpus <= self._caps[name]:  # or it would wait, and others with it, for ever
                self._left[name] -= gpus
        return QuotaReached(lacking[0], self._caps[lacking[0]])

    def take(self, entry: Waiting) -> None:
        """It starts."""
        for name in entry.accounts:
            if name in self._left:
                self._left[name] -= entry.request.gpus


class _Aside:
    """What is kept for some that wait, from all that may last longer than `until`."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.all = ResourceRequest()

    def put(self, request: ResourceRequest, room: Capacity) -> Capacity | None:
        """Add what `request` can take of `room`; return what is left of that, None where it could take nothing."""
        taken = ResourceRequest(
            min(request.cpus, room.cpus), min(request.mem, room.mem), min(request.gpus, room.gpus)
        )
        if not any(taken):
            return None
        self.all = ResourceRequest(*map(add, self.all, taken))
        return room.less(taken)


class _Places:
    """What is free, and what of it is put aside for whom."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._unused = machine.free
        self._first: ResourceRequest | None = None
        self._until = -inf
        """Seconds from now within which the first that does not fit has its place; -inf where nobody knows."""
        self._later: Capacity | None = None
        """What is left then, and so what may be taken for longer."""
        self._started: list[tuple[float, ResourceRequest]] = []
        self._releases: list[tuple[float, Capacity]] = []
        self._asides: list[_Aside] = []
        self._refused: dict[
            tuple[ResourceRequest, float | None], tuple[Capacity | None, _Aside]
        ] = {}
        self._lacks: dict[ResourceRequest, LacksResources | None] = {}

    def take(self, entry: Waiting) -> bool:
        """Start one of `entry` if it may have what it asks for; else put that aside."""
        request, shape = entry.request, (entry.request, entry.longest)
        if known := self._refused.get(
            shape
        ):  # what was refused once never fits later: room only shrinks
            room, aside = known
            if room:
                self._refused[shape] = aside.put(request, room), aside
            return False
        longest = inf if entry.longest is None else entry.longest
        room = self._room(longest)
        if room.fits(request):
            self._start(request, longest)
            return True
        if self._first is None:
            self._first = request
        else:
            aside = self._aside(request)
            self._refused[shape] = aside.put(request, room), aside
        return False

    def lack(self, request: ResourceRequest) -> LacksResources | None:
        """What is not there for it; None where it is only put aside."""
        if request not in self._lacks:
            missing = shortages(request, self._unused)
            self._lacks[request] = LacksResources(missing) if missing else None
        return self._lacks[request]

    def _start(self, request: ResourceRequest, longest: float) -> None:
        self._unused = self._unused.less(request)
        self._lacks.clear()
        if self._first is None:
            self._started.append((longest, request))
        elif longest > self._until:
            assert self._later is not None
            self._later = self._later.less(request)

    def _room(self, longest: float) -> Capacity:
        """What one may take that lasts so many seconds at most."""
        if self._first is None:
            return self._unused
        if self._later is None:
            self._look_ahead(self._first)
        room, later = self._unused, self._later
        assert later is not None
        if longest > self._until:
            room = Capacity(
                min(room.cpus, later.cpus), min(room.mem, later.mem), min(room.gpus, later.gpus)
            )
        for aside in self._asides:
            if longest > aside.until:
                room = room.less(aside.all)
        return room

    def _look_ahead(self, first: ResourceRequest) -> None:
        """Find the place of the first that does not fit."""
        now, room = self._machine.now, self._unused
        ends = [
            (run.until - now, run.request)
            for run in self._machine.running
            if run.until is not None and run.until >= now  # or nothing is sure of it any more
        ]
        self._releases.append((0.0, room))
        for end, request in sorted(ends + [(end, r) for end, r in self._started if end < inf]):
            room = room.plus(request)
            if self._releases[-1][0] == end:
                self._releases.pop()
            self._releases.append((end, room))
        found = self._earliest(first)
        self._until, room = found or (-inf, self._unused)
        self._later = room.less(first)

    def _earliest(self, request: ResourceRequest) -> tuple[float, Capacity] | None:
        """When there is surely room for it if nothing else takes it, and how much there is then."""
        index = bisect_left(self._releases, True, key=lambda release: release[1].fits(request))
        return self._releases[index] if index < len(self._releases) else None

    def _aside(self, request: ResourceRequest) -> _Aside:
        """Where to put aside what `request` could take."""
        found = self._earliest(request)
        until = found[0] if found else -inf
        lower = [aside for aside in self._asides if aside.until <= until]
        near = max(lower, key=lambda aside: aside.until, default=None)
        if near and (near.until == until or len(self._asides) >= _MOST_TIMES):
            return near
        if len(self._asides) >= _MOST_TIMES:
            until = -inf
        self._asides.append(_Aside(until))
        return self._asides[-1]
