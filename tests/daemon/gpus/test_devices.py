"""GPUs as someone declares them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised.gpus.devices import MAX_GPUS, GpuDevice, declared, find
from riseml_proto.errors import InvalidInput


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        (0, []),
        ("0", []),
        (4, [0, 1, 2, 3]),
        (" 2 ", [0, 1]),
        ("0,2,3", [0, 2, 3]),
        ("3, 0", [0, 3]),
        ("7,", [7]),
        (MAX_GPUS, list(range(MAX_GPUS))),
    ],
)
def test_a_number_declares_so_many_and_a_list_declares_these(
    setting: str | int, indices: list[int]
) -> None:
    assert declared(setting) == indices


@pytest.mark.parametrize(
    "setting", ["", ",", "0,,1", "-1", "1-3", "1.0", "four", "0,0", "٣", "9" * 5000, MAX_GPUS + 1]
)
def test_anything_else_is_refused(setting: str | int) -> None:
    with pytest.raises(InvalidInput):
        declared(setting)


@given(st.sets(st.integers(0, MAX_GPUS), min_size=2, max_size=20))
def test_a_list_is_read_back_sorted(indices: set[int]) -> None:
    assert declared(",".join(map(str, indices))) == sorted(indices)


def test_declared_gpus_are_known_by_their_index_alone() -> None:
    assert find("1,3") == [GpuDevice(1), GpuDevice(3)]
    assert find(2) == [GpuDevice(0), GpuDevice(1)]
