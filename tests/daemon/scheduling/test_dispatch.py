"""What is found again after a restart."""

from rised.scheduling.dispatch import current_index

UUIDS = {0: "GPU-b", 1: "GPU-a", 2: None}


def test_a_gpu_that_the_driver_counts_differently_now_is_known_by_its_uuid() -> None:
    assert current_index(0, "GPU-a", UUIDS) == 1
    assert current_index(1, "GPU-b", UUIDS) == 0


def test_a_gpu_without_a_known_uuid_keeps_its_index() -> None:
    assert current_index(2, None, UUIDS) == 2
    assert current_index(3, "GPU-gone", UUIDS) == 3
