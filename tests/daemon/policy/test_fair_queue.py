"""Who starts next among several users: the laws, over every machine and queue that hypothesis can think of."""

from collections import Counter
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rised.policy.fair_order import QUANTUM, STARVATION_SECONDS, fair_order
from rised.policy.queue import Decision, decide
from rised.policy.resources import Capacity, ResourceRequest
from rised.policy.workload import Machine, Running, Waiting, billed_gpus
from riseml_proto.waiting import (
    BehindExperiment,
    LacksResources,
    Paused,
    QuotaReached,
    ServerDrained,
    Shortage,
)

_requests = st.builds(
    ResourceRequest,
    cpus=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    mem=st.sampled_from([0, 0, 100]),
    gpus=st.integers(0, 4),
)
_rooms = st.builds(
    Capacity,
    cpus=st.sampled_from([0.0, 1.0, 4.0]),
    mem=st.sampled_from([0, 100, 5000]),
    gpus=st.integers(0, 6),
)
_times = st.one_of(st.none(), st.sampled_from([0.0, 50.0, 100.0, 100.0, 300.0]))
_users = st.integers(1, 4)


@st.composite
def _waiting(draw: st.DrawFn) -> list[Waiting]:
    made = draw(
        st.lists(
            st.tuples(
                _requests,
                st.integers(1, 4),
                _users,
                st.integers(-2, 2),
                _times,
                st.booleans(),
                st.sampled_from([False, False, False, True]),
            ),
            max_size=10,
        )
    )
    return [
        Waiting(
            n,
            request,
            slots,
            user,
            (f"user:{user}", "group:g") if in_group else (f"user:{user}",),
            priority,
            max_runtime,
            paused,
        )
        for n, (request, slots, user, priority, max_runtime, in_group, paused) in enumerate(made)
    ]


_machines = st.builds(
    Machine,
    free=_rooms,
    now=st.just(0.0),
    running=st.lists(st.builds(Running, _requests, _times), max_size=6),
    usage=st.dictionaries(_users, st.sampled_from([1.0, 60.0, 500.0])),
    gpu_quotas=st.dictionaries(st.sampled_from(["user:1", "user:2", "group:g"]), st.integers(0, 6)),
    gpus_held=st.dictionaries(st.sampled_from(["user:1", "user:2", "group:g"]), st.integers(0, 4)),
    reserved_user=st.one_of(st.none(), _users),
    drained=st.none(),
)


def _taken(waiting: list[Waiting], decision: Decision) -> list[tuple[Waiting, int]]:
    return [(entry, decision.start.get(entry.experiment, 0)) for entry in waiting]


def _after(machine: Machine, waiting: list[Waiting], decision: Decision) -> Machine:
    """The machine when what was decided has started."""
    free, running = machine.free, list(machine.running)
    use, held = dict(machine.usage), Counter(machine.gpus_held)
    for entry, number in _taken(waiting, decision):
        for _ in range(number):
            free = free.minus(entry.request)
            until = None if entry.max_runtime is None else machine.now + entry.max_runtime
            running.append(Running(entry.request, until))
            use[entry.user] = use.get(entry.user, 0.0) + QUANTUM * billed_gpus(entry.request)
            held.update(dict.fromkeys(entry.accounts, entry.request.gpus))
    return machine._replace(
        free=free, running=running, usage=use, gpus_held=held, reserved_user=decision.reserved_user
    )


def _place(machine: Machine, request: ResourceRequest) -> float:
    """When there is surely room for `request` if nothing else starts."""
    room, ends = machine.free, [(0.0, ResourceRequest())]
    ends += [(run.ends_by, run.request) for run in machine.running if run.ends_by is not None]
    for end, back in sorted(ends):
        room = room.plus(back)
        if room.fits(request):
            return end
    return inf


@given(_waiting(), _machines)
def test_never_more_than_is_free_nor_than_concurrency_and_quotas_let(
    waiting: list[Waiting], machine: Machine
) -> None:
    taken = _taken(waiting, decide(waiting, machine))
    assert sum(entry.request.cpus * n for entry, n in taken) <= machine.free.cpus + 1e-5
    assert sum(entry.request.mem * n for entry, n in taken) <= machine.free.mem
    assert sum(entry.request.gpus * n for entry, n in taken) <= machine.free.gpus
    assert all(n <= entry.slots for entry, n in taken)
    for account, cap in machine.gpu_quotas.items():
        more = sum(e.request.gpus * n for e, n in taken if account in e.accounts)
        assert not more or machine.gpus_held.get(account, 0) + more <= cap


@given(_waiting(), _machines)
def test_exactly_those_that_could_go_on_and_do_not_are_told_why(
    waiting: list[Waiting], machine: Machine
) -> None:
    decision = decide(waiting, machine)
    assert set(decision.reasons) == {
        e.experiment for e, n in _taken(waiting, decision) if n < e.slots
    }


@given(_waiting(), _machines, st.randoms())
def test_nothing_but_the_facts_decides(
    waiting: list[Waiting], machine: Machine, random: Random
) -> None:
    running = list(machine.running)
    random.shuffle(running)
    assert decide(waiting, machine) == decide(iter(waiting), machine._replace(running=running))


@given(_waiting(), _machines, _requests, _times)
def test_whoever_is_first_and_does_not_fit_is_not_delayed_by_what_starts_behind(
    waiting: list[Waiting], machine: Machine, wanted: ResourceRequest, max_runtime: float | None
) -> None:
    assume(not machine.free.fits(wanted))
    queue = [*waiting, Waiting(100, wanted, 1, user=0, max_runtime=max_runtime)]
    machine = machine._replace(reserved_user=0)
    decision = decide(queue, machine)
    assert decision.reserved_user == 0
    after = _after(machine, waiting, decision)
    assert _place(after, wanted) <= _place(machine, wanted)
    if _place(machine, wanted) == inf:
        for name in ("cpus", "mem", "gpus"):
            asked, left = getattr(wanted, name), getattr(after.free, name)
            assert left >= min(asked, getattr(machine.free, name)) - 1e-5


@given(_waiting(), _machines, _requests)
def test_the_reserved_user_keeps_the_first_place_until_one_of_theirs_starts(
    waiting: list[Waiting], machine: Machine, wanted: ResourceRequest
) -> None:
    queue = [*waiting, Waiting(100, wanted, 1, user=0)]
    machine = machine._replace(reserved_user=0, usage={**machine.usage, 0: 1e9})
    decision = decide(queue, machine)
    assert (100 in decision.start) == machine.free.fits(wanted)
    assert (decision.reserved_user == 0) == (100 not in decision.start)


@given(_waiting(), _machines)
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


@given(_waiting(), _machines)
def test_one_at_its_quota_is_as_if_it_were_not_there(
    waiting: list[Waiting], machine: Machine
) -> None:
    """But for those that share the account."""
    mine = [
        Waiting(100 + n, ResourceRequest(gpus=n), 2, 9, ("user:nine",), max_runtime=9.0)
        for n in range(1, 3)
    ]
    capped = machine._replace(
        gpu_quotas={**machine.gpu_quotas, "user:nine": 2}, gpus_held={"user:nine": 2}
    )
    decision, without = decide(waiting + mine, capped), decide(waiting, capped)
    assert decision.start == without.start
    assert decision.reserved_user == without.reserved_user
    assert {n: reason for n, reason in decision.reasons.items() if n < 100} == without.reasons


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


def _one(number: int, gpus: int, user: int = 1, max_runtime: float | None = None) -> Waiting:
    return Waiting(number, ResourceRequest(gpus=gpus), 1, user, max_runtime=max_runtime)


def test_a_gap_is_filled_by_what_ends_before_the_large_one_has_its_place() -> None:
    running = [Running(ResourceRequest(gpus=2), 100.0)]
    large = _one(1, 4)
    machine = Machine(Capacity(0, 0, 2), running=running)
    ends_by_then = _one(2, 1, max_runtime=100.0)
    too_long = _one(3, 1, max_runtime=101.0)
    unlimited = _one(4, 1)
    decision = decide([large, ends_by_then, too_long, unlimited], machine)
    assert decision.start == {2: 1}
    assert decision.reasons == {
        1: LacksResources((Shortage("GPU", 4, 2),)),
        3: BehindExperiment(1),
        4: BehindExperiment(1),
    }


def test_what_the_large_one_will_not_need_is_anyones() -> None:
    running = [Running(ResourceRequest(gpus=3), 100.0)]
    machine = Machine(Capacity(0, 0, 2), running=running)
    assert decide([_one(1, 4), _one(2, 1), _one(3, 1)], machine).start == {2: 1}


def test_what_lasts_longer_takes_only_what_the_large_one_will_not_need() -> None:
    machine = Machine(Capacity(0, 0, 2), running=[Running(ResourceRequest(gpus=2), 50.0)])
    queue = [_one(1, 3), _one(2, 1, max_runtime=60.0), _one(3, 1, max_runtime=60.0)]
    assert decide(queue, machine).start == {2: 1}


def test_no_gap_is_filled_where_nobody_knows_how_long_it_is() -> None:
    machine = Machine(Capacity(0, 0, 2), running=[Running(ResourceRequest(gpus=2), None)])
    assert decide([_one(1, 4), _one(2, 1, max_runtime=1.0)], machine).start == {}


def test_a_job_that_outlives_its_time_is_nothing_to_count_on() -> None:
    machine = Machine(Capacity(0, 0, 2), now=10.0, running=[Running(ResourceRequest(gpus=3), 9.0)])
    assert decide([_one(1, 4), _one(2, 1)], machine).start == {}


def test_a_short_one_may_pass_others_that_the_gap_is_too_short_for() -> None:
    running = [Running(ResourceRequest(gpus=2), 100.0)]
    machine = Machine(Capacity(0, 0, 2), running=running)
    many = [_one(n, 1) for n in range(2, 50)]
    assert decide([_one(1, 4), *many, _one(50, 2, max_runtime=100.0)], machine).start == {50: 1}


def test_a_short_one_does_not_pass_one_that_could_start_before_it_ends() -> None:
    running = [Running(ResourceRequest(gpus=1), 50.0), Running(ResourceRequest(gpus=5), 100.0)]
    machine = Machine(Capacity(0, 0, 2), running=running)
    queue = [_one(1, 8), _one(2, 3, max_runtime=40.0), _one(3, 1, max_runtime=60.0)]
    assert decide(queue, machine).start == {}
    assert decide([*queue[:2], _one(3, 1, max_runtime=50.0)], machine).start == {3: 1}


def test_quotas_pass_over_those_who_are_at_theirs_and_say_so() -> None:
    mine = ("user:paul", "group:students")
    waiting = [
        Waiting(1, ResourceRequest(gpus=2), 1, 1, mine),
        Waiting(2, ResourceRequest(gpus=1), 1, 1, mine),
        Waiting(3, ResourceRequest(cpus=1), 1, 1, mine),
        Waiting(4, ResourceRequest(gpus=1), 3, 2, ("user:eva", "group:students")),
        Waiting(5, ResourceRequest(gpus=6), 1, 3, ("user:ann",)),
    ]
    caps = {"user:paul": 4, "group:students": 5}
    held = {"user:paul": 3, "group:students": 3}
    decision = decide(waiting, Machine(Capacity(1, 0, 8), gpu_quotas=caps, gpus_held=held))
    assert decision.start == {4: 2, 3: 1, 5: 1}
    assert decision.reasons == {
        1: QuotaReached("user:paul", 4),
        2: QuotaReached("user:paul", 4),
        4: QuotaReached("group:students", 5),
    }


def test_a_quota_on_the_first_of_a_reserved_user_does_not_cost_them_their_place() -> None:
    mine = [
        Waiting(1, ResourceRequest(gpus=2), 1, 1, ("group:lab",)),
        Waiting(2, ResourceRequest(gpus=1), 1, 1),
        Waiting(3, ResourceRequest(gpus=1), 1, 2),
    ]
    machine = Machine(
        Capacity(0, 0, 1), usage={1: 9.0}, gpu_quotas={"group:lab": 1}, reserved_user=1
    )
    assert decide(mine, machine).start == {2: 1}


def test_what_is_paused_does_not_start_and_holds_up_nobody() -> None:
    paused = Waiting(1, ResourceRequest(gpus=4), 1, paused=True)
    decision = decide([paused, _one(2, 1)], Machine(Capacity(0, 0, 1)))
    assert decision.start == {2: 1}
    assert decision.reasons == {1: Paused(1)}


@given(_waiting(), _machines)
def test_a_drained_server_starts_nothing_and_says_so(
    waiting: list[Waiting], machine: Machine
) -> None:
    decision = decide(waiting, machine._replace(drained="new disks"))
    assert decision.reasons == {e.experiment: ServerDrained("new disks") for e in waiting}
    assert (decision.start, decision.reserved_user, decision.dispatched_users) == (
        {},
        machine.reserved_user,
        frozenset(),
    )


def test_the_order_is_that_of_the_turns() -> None:
    waiting = [_one(1, 1), _one(2, 1), _one(3, 1, user=2), _one(4, 4, user=3)]
    machine = Machine(Capacity(0, 0, 0), usage={1: 30.0, 2: 100.0})
    assert [e.experiment for e in fair_order(waiting, machine)] == [4, 1, 2, 3]
    assert next(fair_order(waiting, machine._replace(reserved_user=2))).experiment == 3
