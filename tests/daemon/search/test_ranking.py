"""Which sub-experiment is the best, and in which order a table has them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised.search.ranking import (
    Ranking,
    best_of,
    check,
    check_sort,
    choose,
    direction,
    number,
    survey,
)
from riseml_proto.errors import InvalidInput, NotFound
from riseml_proto.objective import Objective

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["NaN", "x"])


def ranked(values: list[object], *, lowest: bool, most: int | None = None) -> list[int]:
    """Which members are the best, of such that reported `values`."""
    ranking = Ranking(lowest=lowest, most=most)
    for member, value in enumerate(values, 1):
        ranking.add(member, value)
    return ranking.members


def known(*results: dict[str, object]) -> dict[str, bool]:
    """What is known of members with these results."""
    found: dict[str, bool] = {}
    for each in results:
        survey(found, each)
    return found


def test_the_objective_says_which_is_better_and_else_the_name() -> None:
    mine = Objective("cross_entropy", lowest=True)
    assert direction("cross_entropy", mine, "say --min") is True
    assert direction("accuracy", mine, "say --min") is False
    assert direction("accuracy", Objective("accuracy", lowest=True), "say --min") is True
    with pytest.raises(
        InvalidInput, match=r"name entropy does not say .*; say --min, or .*goal: min"
    ):
        direction("entropy", mine, "say --min")


@given(st.lists(VALUES), st.booleans())
def test_of_a_history_the_best_number_counts(values: list[object], lowest: bool) -> None:
    best = best_of(values, lowest=lowest)
    ranks = ranked(values, lowest=lowest)
    assert best == (number(values[ranks[0] - 1]) if ranks else None)


@given(st.lists(VALUES), st.booleans(), st.integers(0, 5))
def test_the_values_are_those_of_the_members(values: list[object], lowest: bool, most: int) -> None:
    ranking = Ranking(lowest=lowest, most=most)
    for member, value in enumerate(values, 1):
        ranking.add(member, value)
    assert ranking.values == [number(values[member - 1]) for member in ranking.members]


@given(st.lists(VALUES), st.booleans())
def test_the_best_is_as_good_as_any_and_comes_first_of_equal_ones(
    values: list[object], lowest: bool
) -> None:
    scores = {n: score for n, v in enumerate(values, 1) if (score := number(v)) is not None}
    best = ranked(values, lowest=lowest)
    assert sorted(best) == list(scores)
    assert best == sorted(scores, key=lambda n: (scores[n] if lowest else -scores[n], n))


@given(st.lists(st.integers(-3, 3), max_size=2000), st.booleans(), st.integers(0, 5))
def test_keeping_only_the_first_keeps_the_right_ones(
    few: list[int], lowest: bool, most: int
) -> None:
    values: list[object] = [*range(-1500, 1500), *few]
    assert ranked(values, lowest=lowest, most=most) == ranked(values, lowest=lowest)[:most]


def test_neither_nan_nor_infinity_nor_what_no_float_can_hold_ever_wins() -> None:
    values = ["NaN", math.nan, math.inf, -math.inf, 10**400, True, None, 0]
    assert ranked(values, lowest=False) == ranked(values, lowest=True) == [8]


def test_with_one_result_nobody_has_to_say_which() -> None:
    assert choose(known({}, {"a": "NaN", "note": "x"}, {"a": 1}), "7") == "a"


def test_with_several_one_has_to_be_named() -> None:
    with pytest.raises(InvalidInput, match=r"7 has several results, a, b; .* --by a"):
        choose(known({"a": 1, "b": 2}), "7")
    check(known({"a": 1, "b": 2}), "b", "7")


def test_an_unknown_result_is_told_with_those_that_there_are() -> None:
    with pytest.raises(NotFound, match="has reported c; there is a, b"):
        check(known({"a": 1}, {"b": 2, "note": "x"}), "c", "7")
    with pytest.raises(NotFound, match="reported as note in 7 is no number; there is a"):
        check(known({"a": 1, "note": "x"}), "note", "7")
    with pytest.raises(NotFound, match=r"riseml\.report_result"):
        choose(known({"note": "x"}), "7")


def test_an_unknown_order_is_refused_with_all_that_there_are() -> None:
    check_sort(known({"note": "x"}), ["lr"], "note")
    with pytest.raises(NotFound, match="cannot sort by x; there is a, lr"):
        check_sort(known({"a": 1}), ["lr"], "x")
    with pytest.raises(NotFound, match="there is nothing to sort by"):
        check_sort({}, [], "x")
