"""Every reason to wait has one wording, and travels as data."""

from typing import get_args

import msgspec
import pytest

from riseml_proto.waiting import (
    AwaitsImage,
    BehindExperiment,
    BehindMember,
    LacksResources,
    Paused,
    QuotaReached,
    ServerDrained,
    Shortage,
    SlotsTaken,
    StartPutOff,
    WaitReason,
    sentence,
)

WORDINGS: list[tuple[WaitReason, str]] = [
    (LacksResources((Shortage("GPU", 2, 1),)), "waits for 2 GPUs (1 free)"),
    (
        LacksResources((Shortage("GPU", 1, 0), Shortage("CPU", 0.5, 0.25))),
        "waits for 1 GPU (0 free), 0.5 CPUs (0.25 free)",
    ),
    (
        LacksResources((Shortage("memory", 1_048_576, 1000),)),
        "waits for 1048576 MiB of memory (1000 free)",
    ),
    (LacksResources((Shortage("CPU", 1, 0.1 + 0.2),)), "waits for 1 CPU (0.3 free)"),
    (BehindExperiment(144), "waits for its turn after 144"),
    (BehindMember("144.2"), "waits for 144.2 to start"),
    (SlotsTaken(1), "waits for its only slot"),
    (SlotsTaken(3), "waits for one of its 3 slots"),
    (SlotsTaken(1, 144), "waits for the only slot of 144"),
    (SlotsTaken(3, 144), "waits for one of 144's 3 slots"),
    (QuotaReached("user:paul", 1), "waits for your other experiments: at most 1 GPU at once"),
    (
        QuotaReached("group:students", 16),
        "waits for other experiments of group students: at most 16 GPUs at once",
    ),
    (Paused(144), "paused; riseml resume 144 lets it go on"),
    (ServerDrained("new disks"), "the server is drained: new disks"),
    (ServerDrained(""), "the server is drained"),
    (
        StartPutOff("/output: Read-only file system"),
        "cannot start yet, is tried again: /output: Read-only file system",
    ),
    (AwaitsImage(), "waits for its image"),
]


@pytest.mark.parametrize(("reason", "text"), WORDINGS)
def test_a_reason_is_worded_and_travels_as_data(reason: WaitReason, text: str) -> None:
    assert sentence(reason) == text
    assert msgspec.json.decode(msgspec.json.encode(reason), type=WaitReason) == reason


def test_each_kind_of_reason_is_in_the_table() -> None:
    assert {type(reason) for reason, _ in WORDINGS} == set(get_args(WaitReason))


def test_another_reader_is_not_told_of_their_own_experiments() -> None:
    reason = QuotaReached("user:paul", 4)
    assert sentence(reason, own=False) == (
        "waits for their other experiments: at most 4 GPUs at once"
    )
