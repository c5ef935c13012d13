"""What there is, what is taken and what comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from rised.policy.resources import Capacity, Grant, Inventory, ResourceRequest, shortages
from riseml_proto import waiting


def shortage(request: ResourceRequest, capacity: Capacity) -> str:
    """What people read of it."""
    return waiting.amounts(shortages(request, capacity), "free")


MACHINE = Capacity(4.0, 16_000, 4)


def inventory(gpus: tuple[int, ...] = (0, 1, 2, 3)) -> Inventory:
    return Inventory(MACHINE.cpus, MACHINE.mem, gpus)


def test_the_lowest_gpus_are_handed_out_first() -> None:
    there = inventory((7, 2, 5))
    assert there.allocate("a", ResourceRequest(gpus=2)).gpus == (2, 5)
    assert there.allocate("b", ResourceRequest(gpus=1)).gpus == (7,)


def test_gpus_that_are_no_longer_declared_do_not_come_back() -> None:
    there = inventory((0, 1))
    there.hold("adopted", Grant(gpus=(1, 3)))
    assert there.free.gpus == 1
    there.release("adopted")
    assert there.free_gpus == {0, 1}


def test_adopted_jobs_may_hold_more_than_there_is() -> None:
    there = Inventory(2.0, 1000, (0,))
    there.hold("a", Grant(3.0, 800, (0,)))
    there.hold("b", Grant(3.0, 800, (0, 1)))
    assert there.free == Capacity(0.0, 0, 0)
    there.release("a")
    assert there.free == Capacity(0.0, 200, 0)
    there.release("b")
    assert there.free == there.total == Capacity(2.0, 1000, 1)


def test_nobody_gives_back_what_they_do_not_have() -> None:
    with pytest.raises(KeyError):
        inventory().release("nobody")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ResourceRequest(1.0, 100, 1), None),
        (ResourceRequest(4.0000001, 16_000, 4), None),
        (ResourceRequest(gpus=5), "5 GPUs (4 free)"),
        (ResourceRequest(cpus=4.5), "4.5 CPUs (4 free)"),
        (ResourceRequest(mem=1_048_576), "1048576 MiB of memory (16000 free)"),
        (
            ResourceRequest(8, 20_000, 8),
            "8 GPUs (4 free), 8 CPUs (4 free), 20000 MiB of memory (16000 free)",
        ),
    ],
)
def test_a_shortage_names_everything_that_lacks(
    request_: ResourceRequest, text: str | None
) -> None:
    assert shortage(request_, MACHINE) == (text or "")
    assert MACHINE.fits(request_) is (text is None)


def test_one_of_a_kind_is_named_as_one() -> None:
    text = "1 GPU (0 free), 1 CPU (0.25 free)"
    assert shortage(ResourceRequest(1, 0, 1), Capacity(0.25, 0, 0)) == text


def test_what_is_left_of_fractions_is_told_without_binary_residue() -> None:
    there = Inventory(1.0, 0, ())
    for number in range(7):
        there.allocate(number, ResourceRequest(cpus=0.1))
    assert shortage(ResourceRequest(cpus=0.4), there.free) == "0.4 CPUs (0.3 free)"


@given(st.integers(1, 40))
def test_tenths_of_a_cpu_fill_a_whole_one_exactly(cpus: int) -> None:
    there = Inventory(float(cpus), 0, ())
    for number in range(10 * cpus):
        assert there.free.fits(ResourceRequest(cpus=0.1))
        there.allocate(number, ResourceRequest(cpus=0.1))
    assert not there.free.fits(ResourceRequest(cpus=0.1))


@given(
    st.builds(Capacity, st.floats(0, 64), st.integers(0, 10**6), st.integers(0, 16)),
    st.builds(ResourceRequest, st.floats(0, 64), st.integers(0, 10**6), st.integers(0, 16)),
)
def test_it_fits_exactly_where_nothing_lacks(room: Capacity, request: ResourceRequest) -> None:
    assert room.fits(request) is not bool(shortages(request, room))
    assert min(room.minus(request)) >= 0


class Handing(RuleBasedStateMachine):
    """Jobs come and go; some were there before, on GPUs that are declared or are not any more."""

    holders: Bundle[int] = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.there = inventory()
        self.held: dict[int, Grant] = {}
        self.next = 0

    def _new(self, grant: Grant) -> int:
        self.next += 1
        self.held[self.next] = grant
        return self.next

    @rule(
        target=holders,
        request=st.builds(
            ResourceRequest,
            st.sampled_from([0.0, 0.1, 1.0]),
            st.integers(0, 5000),
            st.integers(0, 3),
        ),
    )
    def take(self, request: ResourceRequest) -> int:
        name = self.next + 1
        if not self.there.free.fits(request):
            return self._new(self.there.hold(name, Grant()))
        grant = self.there.allocate(name, request)
        assert (grant.cpus, grant.mem, len(grant.gpus)) == request
        assert set(grant.gpus) <= {0, 1, 2, 3}
        for other in self.held.values():
            assert not set(grant.gpus) & set(other.gpus), "a GPU was handed out twice"
        return self._new(grant)

    @precondition(lambda self: self.next < 3)
    @rule(
        target=holders,
        gpus=st.sets(st.integers(0, 6), max_size=3),
        cpus=st.sampled_from([0.0, 3.0]),
    )
    def adopt(self, gpus: set[int], cpus: float) -> int:
        name = self.next + 1
        return self._new(self.there.hold(name, Grant(cpus, 9000, tuple(sorted(gpus)))))

    @rule(holder=holders)
    def give_back(self, holder: int) -> None:
        if self.held.pop(holder, None) is not None:
            self.there.release(holder)

    @invariant()
    def what_is_free_is_what_nobody_holds(self) -> None:
        used = {gpu for grant in self.held.values() for gpu in grant.gpus}
        assert self.there.free_gpus == {0, 1, 2, 3} - used
        free = self.there.free
        assert free.gpus == len(self.there.free_gpus)
        assert free.mem == max(0, 16_000 - sum(grant.mem for grant in self.held.values()))
        cpus = max(0.0, 4.0 - sum(grant.cpus for grant in self.held.values()))
        assert free.cpus == pytest.approx(cpus, abs=1e-9)
        assert dict(self.there.grants()) == self.held


TestHanding = Handing.TestCase
