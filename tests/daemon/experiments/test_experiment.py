"""An experiment's bookkeeping, against a list that is honest and slow."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rised.experiments.experiment import Experiment
from rised.policy.resources import ResourceRequest
from rised.storage.rows import ExperimentRow
from riseml_proto.config import parse_config
from riseml_proto.states import State


def experiment(members: int, *, frontier: int | None = None, **train: object) -> Experiment:
    lines = [f"  {key}: {value}" for key, value in train.items()]
    if members:
        lines.append(f"  parameters: {{n: {{range: {{min: 1, max: {members}, step: 1}}}}}}")
    text = "\n".join(["project: p", "train:", "  run: x {{n}}", *lines])
    row = ExperimentRow(
        7, "paul", 1000, "p", "f" * 40, text, "riseml.yml", '{"PATH": "/bin"}', members,
        State.PENDING, 0,
    )  # fmt: skip
    first = 1 if members else 0
    return Experiment(
        row,
        parse_config(row.config, row.config_file),
        frontier=first if frontier is None else frontier,
    )


class Bookkeeping(RuleBasedStateMachine):
    """The model is the list of members that have still to start, in order."""

    members = 6

    def __init__(self) -> None:
        super().__init__()
        self.experiment = experiment(self.members)
        self.left = list(range(1, self.members + 1))
        self.again: list[int] = []
        self.started: list[int] = []

    @precondition(lambda self: self.again or self.left)
    @rule()
    def pop(self) -> None:
        expected = min(self.again) if self.again else self.left[0]
        (self.again or self.left).remove(expected)
        self.started.append(expected)
        assert self.experiment.pop() == expected

    @precondition(lambda self: self.started)
    @rule(data=st.data())
    def push(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(self.started))
        self.started.remove(member)
        self.again.append(member)
        self.experiment.push(member)

    @precondition(lambda self: self.again or self.left)
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(self.again + self.left))
        (self.again if member in self.again else self.left).remove(member)
        self.experiment.skip(member)

    @rule()
    def skip_all(self) -> None:
        self.again.clear()
        self.left.clear()
        self.experiment.skip_all()

    @invariant()
    def they_agree(self) -> None:
        expected = min(self.again, default=None) or (self.left[0] if self.left else None)
        assert self.experiment.remaining == len(self.again) + len(self.left)
        assert self.experiment.head == expected
        for member in range(1, self.members + 1):
            assert self.experiment.not_started(member) is (member in self.again + self.left)


TestBookkeeping = Bookkeeping.TestCase


def test_one_without_parameters_is_its_own_only_member() -> None:
    single = experiment(0)
    assert (single.is_set, single.head, single.remaining) == (False, 0, 1)
    assert single.params(0) == {}
    assert single.pop() == 0
    assert (single.head, single.remaining) == (None, 0)


def test_a_restart_goes_on_behind_the_last_that_started() -> None:
    half = experiment(10, frontier=6)
    assert (half.head, half.remaining) == (6, 5)
    half.push(3)
    assert (half.head, half.remaining) == (3, 6)
    over = experiment(10, frontier=11)
    assert (over.head, over.remaining) == (None, 0)


@given(st.integers(1, 10), st.integers(0, 12), st.integers(0, 12))
def test_its_slots_are_what_concurrency_and_members_leave(
    concurrency: int, running: int, started: int
) -> None:
    some = experiment(10, concurrency=concurrency)
    running = min(running, concurrency)
    for number in range(running):
        some.limiter.acquire_on_behalf_of_nowait(number)
    for _ in range(min(started, 10)):
        some.pop()
    assert some.slots == min(concurrency - running, 10 - min(started, 10))
    assert (some.number, some.request) == (7, ResourceRequest(0.0, 0, 0))


def test_what_it_asks_for_is_what_its_file_says() -> None:
    some = experiment(2, resources="{gpus: 2, cpus: 0.5, mem: 1GiB}")
    assert some.request == ResourceRequest(0.5, 1024, 2)
    assert some.params(2) == {"n": "2"}
    assert some.env == {"PATH": "/bin"}


def test_more_concurrency_than_members_is_no_more() -> None:
    assert experiment(3, concurrency=1000).limiter.total_tokens == 3


def test_a_million_members_cost_what_eight_cost() -> None:
    def seconds(members: int) -> float:
        began = time.perf_counter()
        some = experiment(members)
        for _ in range(200):
            some.skip(some.pop() + 50)
            assert some.slots == 1
            assert some.params(members)
        return time.perf_counter() - began

    assert seconds(1_000_000) < 10 * seconds(1_000) + 0.1


def test_nothing_is_left_to_start_where_a_head_is_taken_from_none() -> None:
    none = experiment(1)
    none.pop()
    with pytest.raises(AssertionError):
        none.pop()
