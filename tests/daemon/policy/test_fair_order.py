"""Whose turn it is: the fair-share order, and that nobody starves."""

from collections import Counter
from heapq import heappop, heappush
from itertools import count
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from rised.policy.fair_order import QUANTUM, STARVATION_SECONDS, fair_order
from rised.policy.queue import decide
from rised.policy.resources import Capacity, ResourceRequest
from rised.policy.workload import Machine, Running, Waiting, billed_gpus
from tests.daemon.policy.workloads import gpu_job, machines, requests, waiting_lists


class _Server:
    """Whatever the law decides, done: sub-experiments run as long as they say, and what they used is counted."""

    def __init__(self, room: Capacity, half_life: float) -> None:
        self.free, self.half_life, self.now = room, half_life, 0.0
        self.usage: dict[int, float] = {}
        self.reserved_user: int | None = None
        self.last_dispatch: dict[int, float] = {}
        self.started: Counter[int] = Counter()
        self._ends: list[tuple[float, int, Waiting, float]] = []
        self._serial = count()

    def step(self, waiting: list[Waiting], lasts: dict[int, float]) -> None:
        """Decide once, and go on to the next end."""
        live = dict(self.usage)
        for _, _, entry, began in self._ends:
            used = billed_gpus(entry.request) * max(QUANTUM, self.now - began)
            live[entry.user] = live.get(entry.user, 0.0) + used
        running = [
            Running(entry.request, None if entry.max_runtime is None else began + entry.max_runtime)
            for _, _, entry, began in self._ends
        ]
        machine = Machine(self.free, self.now, running, live, last_dispatch=self.last_dispatch)
        decision = decide(waiting, machine._replace(reserved_user=self.reserved_user))
        self.reserved_user = decision.reserved_user
        self.last_dispatch |= dict.fromkeys(decision.dispatched_users, self.now)
        self.started.update(decision.start)
        for entry in waiting:
            for _ in range(decision.start.get(entry.experiment, 0)):
                self.free = self.free.minus(entry.request)
                end = self.now + lasts[entry.experiment]
                heappush(self._ends, (end, next(self._serial), entry, self.now))
        end, _, entry, began = heappop(self._ends)
        fade = 0.5 ** ((end - self.now) / self.half_life)
        self.usage = {user: used * fade for user, used in self.usage.items()}
        used = billed_gpus(entry.request) * (end - began)
        self.usage[entry.user] = self.usage.get(entry.user, 0.0) + used
        self.free, self.now = self.free.plus(entry.request), end


@given(waiting_lists(), machines)
def test_within_a_user_priority_decides_then_the_number(
    waiting: list[Waiting], machine: Machine
) -> None:
    alike = [entry._replace(request=ResourceRequest(gpus=1), paused=False) for entry in waiting]
    decision = decide(alike, machine._replace(gpu_quotas={}))
    mine: dict[int, list[Waiting]] = {}
    for entry in sorted(alike, key=lambda entry: (-entry.priority, entry.experiment)):
        mine.setdefault(entry.user, []).append(entry)
    for line in mine.values():
        left_over = [decision.start.get(e.experiment, 0) < e.slots for e in line]
        waits = [*left_over, True].index(True)
        # What has no time limit fills no gap, so that nothing is before its turn.
        assert not any(
            e.experiment in decision.start for e in line[waits + 1 :] if e.max_runtime is None
        )
        assert [e for e in fair_order(alike, machine) if e.user == line[0].user] == line


@given(st.dictionaries(st.integers(0, 9), st.floats(0, 1e6), min_size=1), st.integers(0, 10))
def test_who_has_used_less_starts_first(use: dict[int, float], gpus: int) -> None:
    waiting = [Waiting(user, ResourceRequest(gpus=1), 1, user) for user in sorted(use)]
    start = decide(waiting, Machine(Capacity(0, 0, gpus), usage=use)).start
    assert list(start) == sorted(use, key=lambda user: (use[user], user))[:gpus]


@given(st.integers(2, 5), st.integers(0, 30), st.sampled_from([0, 1, 3]))
def test_newcomers_share_what_is_free(users: int, room: int, gpus: int) -> None:
    waiting = [Waiting(n, ResourceRequest(cpus=1, gpus=gpus), 100, n) for n in range(users)]
    counts = decide(waiting, Machine(Capacity(room, 0, room * gpus))).start
    shares = [counts.get(n, 0) for n in range(users)]
    assert sum(shares) == room
    assert max(shares) - min(shares) <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([0.0, 1.0]),
            st.integers(0, 2),
            st.integers(0, 3),
            st.sampled_from([1e3, 2e3, 9e3]),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    st.builds(ResourceRequest, st.sampled_from([0.0, 1.0, 4.0]), st.just(0), st.integers(0, 4)),
    st.sampled_from([0.0, 2e3, 1e9]),
    st.sampled_from([6e3, 1e5, inf]),
)
def test_nobody_waits_for_ever_whatever_stream_of_others_goes_on(
    streams: list[tuple[int, float, int, int, float, bool]],
    wanted: ResourceRequest,
    used: float,
    half_life: float,
) -> None:
    """Streams never end: each has always some more to start. One of them may be of the same user."""
    server = _Server(Capacity(4.0, 0, 4), half_life)
    server.usage[0] = used
    waiting, lasts = [Waiting(50, wanted, 1, 0, priority=1, eligible_since=0.0)], {50: 10.0}
    for number, (user, cpus, gpus, priority, lasting, limited) in enumerate(streams):
        request = ResourceRequest(cpus=cpus or 0.5 * (not gpus), gpus=gpus)
        priority = min(priority, 1) if user == 0 else priority
        max_runtime = lasting if limited else None
        number += 100 if user == 0 else 0  # those of the same user have come later
        waiting.append(
            Waiting(number, request, 5, user, priority=priority, max_runtime=max_runtime)
        )
        lasts[number] = lasting
    waiting.sort()
    while not server.started[50]:
        assert server.now < 3 * STARVATION_SECONDS
        server.step(waiting, lasts)


def test_who_has_had_no_turn_for_a_day_goes_first() -> None:
    waiting = [
        Waiting(1, ResourceRequest(gpus=1), 1, user=1, eligible_since=0.0),
        Waiting(2, ResourceRequest(gpus=1), 1, user=2, eligible_since=100.0),
        Waiting(3, ResourceRequest(gpus=1), 1, user=3, eligible_since=50.0),
    ]
    machine = Machine(Capacity(0, 0, 1), usage={2: 9.0, 3: 99.0})
    assert decide(waiting, machine._replace(now=STARVATION_SECONDS - 1)).start == {1: 1}
    later = machine._replace(now=STARVATION_SECONDS + 60, last_dispatch={1: 40.0})
    assert decide(waiting, later).start == {1: 1}
    assert decide(waiting, later._replace(last_dispatch={1: 70.0})).start == {3: 1}
    assert decide(waiting, later._replace(reserved_user=2)).start == {2: 1}


def test_the_order_is_that_of_the_turns() -> None:
    waiting = [gpu_job(1, 1), gpu_job(2, 1), gpu_job(3, 1, user=2), gpu_job(4, 4, user=3)]
    machine = Machine(Capacity(0, 0, 0), usage={1: 30.0, 2: 100.0})
    assert [e.experiment for e in fair_order(waiting, machine)] == [4, 1, 2, 3]
    assert next(fair_order(waiting, machine._replace(reserved_user=2))).experiment == 3


@given(waiting_lists(), machines, requests)
def test_the_reserved_user_keeps_the_first_place_until_one_of_theirs_starts(
    waiting: list[Waiting], machine: Machine, wanted: ResourceRequest
) -> None:
    queue = [*waiting, Waiting(100, wanted, 1, user=0)]
    machine = machine._replace(reserved_user=0, usage={**machine.usage, 0: 1e9})
    decision = decide(queue, machine)
    assert (100 in decision.start) == machine.free.fits(wanted)
    assert (decision.reserved_user == 0) == (100 not in decision.start)
