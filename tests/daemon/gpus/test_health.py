"""Which readings and faults make a GPU unavailable, as pure decisions."""

from hypothesis import given
from hypothesis import strategies as st

from rised.gpus.health import (
    Failing,
    GpuHealth,
    GpuProcess,
    TakenOut,
    UsedByOthers,
    explain,
    is_gpu_fault,
    unavailable,
)
from rised.policy.resources import Inventory, ResourceRequest


def test_only_hardware_and_driver_are_to_blame_for_these() -> None:
    assert [xid for xid in (13, 31, 43, 45, 48, 63, 74, 79, 94, 95, 119) if is_gpu_fault(xid)] == [
        48, 63, 74, 79, 94, 95, 119,
    ]  # fmt: skip


def test_each_reason_is_one_clause_and_processes_are_named_as_the_reader_may_see_them() -> None:
    processes = (GpuProcess(7, 400), GpuProcess(8, 200))
    assert explain(TakenOut("new fan")) == "taken out: new fan"
    assert explain(TakenOut("")) == "taken out"
    assert explain(Failing("GPU is lost")) == "fails: GPU is lost"
    assert explain(UsedByOthers(processes)) == "used by others: 600 MiB (pid 7, 8)"
    named = explain(UsedByOthers(processes), lambda pid: f"{pid} paul python")
    assert named == "used by others: 600 MiB (pid 7 paul python, 8 paul python)"


_readings = st.lists(
    st.builds(
        GpuHealth,
        st.integers(0, 7),
        st.lists(st.builds(GpuProcess, st.integers(1, 99), st.integers(0, 4000)), max_size=3).map(
            tuple
        ),
        st.sampled_from([None, None, "lost"]),
    ),
    unique_by=lambda reading: reading.index,
)


@given(
    _readings, st.sets(st.integers(0, 7)), st.dictionaries(st.integers(0, 7), st.text(max_size=5))
)
def test_what_is_out_is_never_handed_out_and_the_books_balance(
    readings: list[GpuHealth], held: set[int], off: dict[int, str]
) -> None:
    inventory = Inventory(8, 1000, tuple(range(8)))
    for index in sorted(held):
        inventory.free_gpus.discard(index)
    why = unavailable(off, readings, held, 512)
    inventory.unavailable_gpus = set(why)
    assert all(explain(reason) for reason in why.values())
    assert why.keys() >= off.keys()
    assert not (why.keys() - off.keys() - {r.index for r in readings if r.lost}) & held
    free = inventory.free.gpus
    taken = inventory.allocate("all", ResourceRequest(gpus=free)).gpus
    assert not set(taken) & (why.keys() | held)
    assert inventory.free.gpus == 0
    inventory.release("all")
    assert inventory.free.gpus == free
    inventory.unavailable_gpus = set()
    assert inventory.free.gpus == 8 - len(held)
