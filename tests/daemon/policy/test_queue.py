"""Who starts next where one user has no limits: first come, first served, over all that hypothesis can think of."""

from hypothesis import given
from hypothesis import strategies as st

from rised.policy import queue as law
from rised.policy.queue import Decision
from rised.policy.resources import Capacity, ResourceRequest
from rised.policy.workload import Machine, Waiting
from riseml_proto.waiting import BehindExperiment, LacksResources, Shortage

_requests = st.builds(
    ResourceRequest,
    cpus=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 3.5]),
    mem=st.sampled_from([0, 0, 100, 4096]),
    gpus=st.integers(0, 4),
)
_rooms = st.builds(
    Capacity,
    cpus=st.sampled_from([0.0, 0.3, 1.0, 4.0, 10.0]),
    mem=st.sampled_from([0, 100, 5000, 20_000]),
    gpus=st.integers(0, 6),
)


def decide(queue: list[Waiting], free: Capacity) -> Decision:
    return law.decide(queue, Machine(free))


def lacks_gpus(needed: int, free: int) -> LacksResources:
    return LacksResources((Shortage("GPU", needed, free),))


@st.composite
def _queues(draw: st.DrawFn) -> list[Waiting]:
    entries = draw(st.lists(st.tuples(_requests, st.integers(1, 5)), max_size=8))
    return [Waiting(100 + n, request, slots) for n, (request, slots) in enumerate(entries)]


def _taken(queue: list[Waiting], decision: Decision) -> Capacity:
    started = [(w.request, decision.start.get(w.experiment, 0)) for w in queue]
    return Capacity(
        sum(request.cpus * count for request, count in started),
        sum(request.mem * count for request, count in started),
        sum(request.gpus * count for request, count in started),
    )


@given(_queues(), _rooms, st.integers(0, 8))
def test_what_comes_later_changes_nothing_for_what_came_earlier(
    queue: list[Waiting], free: Capacity, cut: int
) -> None:
    alone, together = decide(queue[:cut], free), decide(queue, free)
    earlier = {w.experiment for w in queue[:cut]}
    assert {n: c for n, c in together.start.items() if n in earlier} == alone.start
    assert {n: w for n, w in together.reasons.items() if n in earlier} == alone.reasons


@given(_queues(), _rooms)
def test_never_more_is_handed_out_than_is_free(queue: list[Waiting], free: Capacity) -> None:
    taken = _taken(queue, decide(queue, free))
    assert taken.cpus <= free.cpus + 1e-5
    assert taken.mem <= free.mem
    assert taken.gpus <= free.gpus


@given(_queues(), _rooms)
def test_never_more_starts_than_concurrency_lets(queue: list[Waiting], free: Capacity) -> None:
    decision = decide(queue, free)
    slots = {w.experiment: w.slots for w in queue}
    assert all(0 < count <= slots[number] for number, count in decision.start.items())


@given(_queues(), _rooms)
def test_exactly_those_that_could_go_on_but_do_not_fit_are_told_why(
    queue: list[Waiting], free: Capacity
) -> None:
    decision = decide(queue, free)
    left_over = {w.experiment for w in queue if decision.start.get(w.experiment, 0) < w.slots}
    assert set(decision.reasons) == left_over
    allowed = LacksResources, BehindExperiment
    assert all(isinstance(reason, allowed) for reason in decision.reasons.values())


@given(_queues(), _rooms)
def test_the_first_in_the_queue_starts_all_that_fits(queue: list[Waiting], free: Capacity) -> None:
    if not queue:
        return
    head, left, count = queue[0], free, 0
    while count < head.slots and left.fits(head.request):
        left, count = left.minus(head.request), count + 1
    assert decide(queue, free).start.get(head.experiment, 0) == count


@given(_queues(), _rooms, _requests)
def test_a_job_behind_never_takes_what_the_one_in_front_could_use(
    queue: list[Waiting], free: Capacity, wanted: ResourceRequest
) -> None:
    """What the blocked head lacks only shrinks by what its own kind gives back."""
    head = Waiting(1, wanted, 1)
    if free.fits(wanted):
        return
    after = decide([head, *queue], free)
    taken = _taken(queue, after)
    for name in ("cpus", "mem", "gpus"):
        available, needed = getattr(free, name), getattr(wanted, name)
        assert getattr(taken, name) <= max(0, available - needed) + 1e-5


@given(_queues(), _rooms)
def test_nothing_stays_idle_that_someone_wants_and_nobody_in_front_waits_for(
    queue: list[Waiting], free: Capacity
) -> None:
    """GPU jobs and CPU-only jobs share nothing, so that each kind fares as if it were alone."""
    gpu_only = [w._replace(request=ResourceRequest(gpus=w.request.gpus)) for w in queue]
    pairs = [
        (w, w._replace(experiment=w.experiment + 1000, request=ResourceRequest(mem=100)))
        for w in gpu_only
    ]
    mixed = decide([w for pair in pairs for w in pair], free).start
    apart = decide(gpu_only, free).start | decide([other for _, other in pairs], free).start
    assert mixed == apart


@given(_queues(), _rooms)
def test_asked_again_with_what_is_left_it_starts_nothing_more(
    queue: list[Waiting], free: Capacity
) -> None:
    first = decide(queue, free)
    left = free
    rest = []
    for entry in queue:
        started = first.start.get(entry.experiment, 0)
        for _ in range(started):
            left = left.minus(entry.request)
        if started < entry.slots:
            rest.append(entry._replace(slots=entry.slots - started))
    assert decide(rest, left).start == {}


def test_one_that_does_not_fit_keeps_its_place_and_is_told_the_numbers() -> None:
    queue = [
        Waiting(1, ResourceRequest(gpus=3), 1),
        Waiting(2, ResourceRequest(gpus=1), 1),
        Waiting(3, ResourceRequest(cpus=1), 1),
    ]
    decision = decide(queue, Capacity(4, 1000, 2))
    assert decision.start == {3: 1}
    assert decision.reasons == {1: lacks_gpus(3, 2), 2: BehindExperiment(1)}


def test_a_set_is_told_what_its_own_members_have_left_over() -> None:
    queue = [Waiting(1, ResourceRequest(gpus=2), 3), Waiting(2, ResourceRequest(gpus=1), 1)]
    decision = decide(queue, Capacity(1, 1, 3))
    assert decision.start == {1: 1}
    assert decision.reasons == {1: lacks_gpus(2, 1), 2: BehindExperiment(1)}


@given(_queues(), _rooms)
def test_whose_turn_it_is_is_someone_in_front_that_waits(
    queue: list[Waiting], free: Capacity
) -> None:
    reasons = decide(queue, free).reasons
    for number, reason in reasons.items():
        if isinstance(reason, BehindExperiment):
            assert reason.experiment in reasons
            assert reason.experiment < number


def test_experiments_start_in_the_order_of_their_numbers() -> None:
    queue = [Waiting(n, ResourceRequest(gpus=1), 1) for n in range(1, 6)]
    for gpus in range(6):
        assert list(decide(queue, Capacity(0, 0, gpus)).start) == list(range(1, gpus + 1))


def test_fractions_of_a_cpu_add_up_to_a_whole_one() -> None:
    assert decide([Waiting(1, ResourceRequest(cpus=0.1), 20)], Capacity(1, 0, 0)).start == {1: 10}
