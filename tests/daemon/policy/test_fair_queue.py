"""What the queue decides among several users, by all parts of its law together."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from rised.policy.queue import decide
from rised.policy.resources import Capacity, ResourceRequest
from rised.policy.workload import Machine, Waiting
from riseml_proto.waiting import (
    Paused,
    QuotaReached,
    ServerDrained,
)
from tests.daemon.policy.workloads import gpu_job, machines, taken_by, waiting_lists


@given(waiting_lists(), machines)
def test_never_more_than_is_free_nor_than_concurrency_and_quotas_let(
    waiting: list[Waiting], machine: Machine
) -> None:
    taken = taken_by(waiting, decide(waiting, machine))
    assert sum(entry.request.cpus * n for entry, n in taken) <= machine.free.cpus + 1e-5
    assert sum(entry.request.mem * n for entry, n in taken) <= machine.free.mem
    assert sum(entry.request.gpus * n for entry, n in taken) <= machine.free.gpus
    assert all(n <= entry.slots for entry, n in taken)
    for account, cap in machine.gpu_quotas.items():
        more = sum(e.request.gpus * n for e, n in taken if account in e.accounts)
        assert not more or machine.gpus_held.get(account, 0) + more <= cap


@given(waiting_lists(), machines)
def test_exactly_those_that_could_go_on_and_do_not_are_told_why(
    waiting: list[Waiting], machine: Machine
) -> None:
    decision = decide(waiting, machine)
    assert set(decision.reasons) == {
        e.experiment for e, n in taken_by(waiting, decision) if n < e.slots
    }


@given(waiting_lists(), machines, st.randoms())
def test_nothing_but_the_facts_decides(
    waiting: list[Waiting], machine: Machine, random: Random
) -> None:
    running = list(machine.running)
    random.shuffle(running)
    assert decide(waiting, machine) == decide(iter(waiting), machine._replace(running=running))


@given(waiting_lists(), machines)
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
    decision = decide([paused, gpu_job(2, 1)], Machine(Capacity(0, 0, 1)))
    assert decision.start == {2: 1}
    assert decision.reasons == {1: Paused(1)}


@given(waiting_lists(), machines)
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
