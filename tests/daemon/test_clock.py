"""The daemon's times."""

import time
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from rised.clock import now_ms, since_epoch, to_datetime


def test_now_is_between_before_and_after() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= now_ms() <= time.time_ns() // 1_000_000


@given(st.integers(0, 253_402_300_799_999))
def test_a_moment_survives_the_way_out_and_back(ms: int) -> None:
    assert since_epoch(to_datetime(ms)) == timedelta(milliseconds=ms)
    assert to_datetime(ms).tzinfo is UTC


def test_a_time_without_a_zone_is_utc() -> None:
    plain = datetime(2017, 8, 30, 9, 59, 6)  # noqa: DTZ001 (what this is about)
    assert since_epoch(plain) == since_epoch(plain.replace(tzinfo=UTC))
    assert since_epoch(plain) == timedelta(seconds=1_504_087_146)


def test_zones_are_minded() -> None:
    there = datetime(2017, 8, 30, 11, 59, 6, tzinfo=timezone(timedelta(hours=2)))
    assert since_epoch(there) == timedelta(seconds=1_504_087_146)
