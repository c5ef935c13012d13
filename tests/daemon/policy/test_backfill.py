"""Small jobs fill gaps where they delay nobody."""

from collections import Counter
from math import inf

from hypothesis import assume, given

from rised.policy.fair_order import QUANTUM
from rised.policy.queue import Decision, decide
from rised.policy.resources import Capacity, ResourceRequest
from rised.policy.workload import Machine, Running, Waiting, billed_gpus
from riseml_proto.waiting import (
    BehindExperiment,
    LacksResources,
    Shortage,
)
from tests.daemon.policy.workloads import (
    gpu_job,
    machines,
    requests,
    taken_by,
    times,
    waiting_lists,
)


def after(machine: Machine, waiting: list[Waiting], decision: Decision) -> Machine:
    """The machine when what was decided has started."""
    free, running = machine.free, list(machine.running)
    use, held = dict(machine.usage), Counter(machine.gpus_held)
    for entry, number in taken_by(waiting, decision):
        for _ in range(number):
            free = free.minus(entry.request)
            until = None if entry.max_runtime is None else machine.now + entry.max_runtime
            running.append(Running(entry.request, until))
            use[entry.user] = use.get(entry.user, 0.0) + QUANTUM * billed_gpus(entry.request)
            held.update(dict.fromkeys(entry.accounts, entry.request.gpus))
    return machine._replace(
        free=free, running=running, usage=use, gpus_held=held, reserved_user=decision.reserved_user
    )


def earliest_start(machine: Machine, request: ResourceRequest) -> float:
    """When there is surely room for `request` if nothing else starts."""
    room, ends = machine.free, [(0.0, ResourceRequest())]
    ends += [(run.ends_by, run.request) for run in machine.running if run.ends_by is not None]
    for end, back in sorted(ends):
        room = room.plus(back)
        if room.fits(request):
            return end
    return inf


@given(waiting_lists(), machines, requests, times)
def test_whoever_is_first_and_does_not_fit_is_not_delayed_by_what_starts_behind(
    waiting: list[Waiting], machine: Machine, wanted: ResourceRequest, max_runtime: float | None
) -> None:
    assume(not machine.free.fits(wanted))
    queue = [*waiting, Waiting(100, wanted, 1, user=0, max_runtime=max_runtime)]
    machine = machine._replace(reserved_user=0)
    decision = decide(queue, machine)
    assert decision.reserved_user == 0
    later = after(machine, waiting, decision)
    assert earliest_start(later, wanted) <= earliest_start(machine, wanted)
    if earliest_start(machine, wanted) == inf:
        for name in ("cpus", "mem", "gpus"):
            needed, left = getattr(wanted, name), getattr(later.free, name)
            assert left >= min(needed, getattr(machine.free, name)) - 1e-5


def test_a_gap_is_filled_by_what_ends_before_the_large_one_has_its_place() -> None:
    running = [Running(ResourceRequest(gpus=2), 100.0)]
    large = gpu_job(1, 4)
    machine = Machine(Capacity(0, 0, 2), running=running)
    ends_by_then = gpu_job(2, 1, max_runtime=100.0)
    too_long = gpu_job(3, 1, max_runtime=101.0)
    unlimited = gpu_job(4, 1)
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
    assert decide([gpu_job(1, 4), gpu_job(2, 1), gpu_job(3, 1)], machine).start == {2: 1}


def test_what_lasts_longer_takes_only_what_the_large_one_will_not_need() -> None:
    machine = Machine(Capacity(0, 0, 2), running=[Running(ResourceRequest(gpus=2), 50.0)])
    queue = [gpu_job(1, 3), gpu_job(2, 1, max_runtime=60.0), gpu_job(3, 1, max_runtime=60.0)]
    assert decide(queue, machine).start == {2: 1}


def test_no_gap_is_filled_where_nobody_knows_how_long_it_is() -> None:
    machine = Machine(Capacity(0, 0, 2), running=[Running(ResourceRequest(gpus=2), None)])
    assert decide([gpu_job(1, 4), gpu_job(2, 1, max_runtime=1.0)], machine).start == {}


def test_a_job_that_outlives_its_time_is_nothing_to_count_on() -> None:
    machine = Machine(Capacity(0, 0, 2), now=10.0, running=[Running(ResourceRequest(gpus=3), 9.0)])
    assert decide([gpu_job(1, 4), gpu_job(2, 1)], machine).start == {}


def test_a_short_one_may_pass_others_that_the_gap_is_too_short_for() -> None:
    running = [Running(ResourceRequest(gpus=2), 100.0)]
    machine = Machine(Capacity(0, 0, 2), running=running)
    many = [gpu_job(n, 1) for n in range(2, 50)]
    assert decide([gpu_job(1, 4), *many, gpu_job(50, 2, max_runtime=100.0)], machine).start == {
        50: 1
    }


def test_a_short_one_does_not_pass_one_that_could_start_before_it_ends() -> None:
    running = [Running(ResourceRequest(gpus=1), 50.0), Running(ResourceRequest(gpus=5), 100.0)]
    machine = Machine(Capacity(0, 0, 2), running=running)
    queue = [gpu_job(1, 8), gpu_job(2, 3, max_runtime=40.0), gpu_job(3, 1, max_runtime=60.0)]
    assert decide(queue, machine).start == {}
    assert decide([*queue[:2], gpu_job(3, 1, max_runtime=50.0)], machine).start == {3: 1}
