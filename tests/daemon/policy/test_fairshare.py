"""Use that fades: what a user is charged, and what still counts of it later."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised.policy.fairshare import FairShare, Used

_seconds = st.integers(0, 10**9).map(lambda ms: ms / 1000)
_lives = st.one_of(st.just(inf), st.floats(1, 1e6))


def test_half_of_it_counts_after_the_half_life() -> None:
    share = FairShare(100.0, {7: Used(80.0, 1_000)})
    assert share.used_by(7, 1_000) == 80.0
    assert share.used_by(7, 101_000) == pytest.approx(40.0)
    assert share.used_by(8, 101_000) == 0.0


@given(_lives, st.integers(0, 8), _seconds, _seconds)
def test_a_run_costs_the_same_whole_or_in_pieces(
    half_life: float, gpus: int, one: float, other: float
) -> None:
    share = FairShare(half_life, {})
    began, middle = 0, round(one * 1000)
    end = middle + round(other * 1000)
    whole = share.charged(1, gpus, began, end)
    share.record(1, share.charged(1, gpus, began, middle))
    assert share.charged(1, gpus, middle, end).gpu_seconds == pytest.approx(whole.gpu_seconds)


@given(_lives, _seconds, _seconds)
def test_it_is_never_more_than_was_used_and_grows_while_it_is_used(
    half_life: float, seconds: float, more: float
) -> None:
    share = FairShare(half_life, {})
    assert 0 <= share.spent(2, seconds) <= 2 * seconds * (1 + 1e-9)
    assert share.spent(2, seconds) <= share.spent(2, seconds + more) * (1 + 1e-9)


@given(_lives, st.floats(0, 1e9), st.integers(-(10**12), 10**12))
def test_a_clock_that_is_set_neither_adds_nor_takes_below_nothing(
    half_life: float, gpu_seconds: float, shift: int
) -> None:
    share = FairShare(half_life, {1: Used(gpu_seconds, 0)})
    assert 0 <= share.used_by(1, shift) <= gpu_seconds
    assert share.charged(1, 4, 0, shift).at_ms == shift
    assert share.charged(1, 4, 0, shift).gpu_seconds >= 0


def test_without_a_half_life_nothing_that_has_ended_counts() -> None:
    share = FairShare(0.0, {1: Used(50.0, 0)})
    assert share.used_by(1, 0) == 0.0
    assert share.charged(1, 4, 0, 60_000).gpu_seconds == 0.0
