"""When things are expected to start: in the order of the law, by limits, and never from what nobody knows."""

import time

from hypothesis import given
from hypothesis import strategies as st

from rised.policy.fair_order import fair_order
from rised.policy.forecast import RunningBatch, forecast
from rised.policy.queue import decide
from rised.policy.resources import Capacity, ResourceRequest
from rised.policy.workload import Machine, Running, Waiting


def entry(
    number: int, gpus: int, max_runtime: float | None, slots: int = 1, user: int = 1
) -> Waiting:
    return Waiting(number, ResourceRequest(gpus=gpus), slots, user, max_runtime=max_runtime)


def machine(free: int, held: list[RunningBatch]) -> Machine:
    running = [Running(one.entry.request, one.ends_by) for one in held]
    return Machine(Capacity(0, 0, free), now=1000.0, running=running)


def test_each_is_expected_when_the_limits_of_those_before_it_are_over() -> None:
    held = [RunningBatch(entry(1, 1, 100.0), 1040.0)]
    waiting = [entry(2, 1, 60.0), entry(3, 1, 60.0), entry(4, 2, None)]
    expected = forecast(waiting, {2: 1, 3: 1, 4: 1}, held, machine(1, held))
    assert expected == {2: 0.0, 3: 40.0, 4: 100.0}


def test_nothing_is_known_after_what_has_no_limit() -> None:
    held = [RunningBatch(entry(1, 1, None), None)]
    waiting = [entry(2, 1, 60.0), entry(3, 1, 60.0)]
    expected = forecast(waiting, {2: 1, 3: 1}, held, machine(0, held))
    assert expected == {2: None, 3: None}


def test_one_that_has_outlived_its_limit_tells_nothing() -> None:
    held = [RunningBatch(entry(1, 1, 10.0), 990.0)]
    assert forecast([entry(2, 1, 60.0)], {2: 1}, held, machine(0, held)) == {2: None}


def test_a_set_at_its_concurrency_goes_on_when_one_of_its_own_ends() -> None:
    mine = entry(1, 1, 100.0, slots=0)
    held = [RunningBatch(mine, 1070.0)]
    assert forecast([mine], {1: 5}, held, machine(3, held)) == {1: 70.0}


def test_a_grid_of_a_million_costs_nothing() -> None:
    waiting = [entry(n, 1, 10.0, slots=1) for n in range(1, 300)]
    began = time.thread_time()
    expected = forecast(waiting, dict.fromkeys(range(300), 10**6), [], machine(1, []))
    assert time.thread_time() - began < 2
    assert expected[1] == 0.0
    assert expected[2] is None


_entries = st.lists(
    st.tuples(
        st.integers(0, 3), st.one_of(st.none(), st.sampled_from([10.0, 60.0])), st.integers(1, 3)
    ),
    max_size=6,
)


@given(_entries, st.integers(0, 4))
def test_what_starts_now_is_expected_now_and_the_order_is_the_queues(
    given_: list[tuple[int, float | None, int]], free: int
) -> None:
    waiting = [
        entry(n, gpus, max_runtime, slots, user=n % 3)
        for n, (gpus, max_runtime, slots) in enumerate(given_)
    ]
    now = machine(free, [])
    expected = forecast(waiting, {e.experiment: e.slots for e in waiting}, [], now)
    assert list(expected) == [e.experiment for e in fair_order(waiting, now)]
    assert {n for n, at in expected.items() if at == 0.0} >= decide(waiting, now).start.keys()
    assert all(at is None or at >= 0 for at in expected.values())
