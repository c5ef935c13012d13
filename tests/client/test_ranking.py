"""Which sub-experiment is the best."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.ranking import criterion, is_lower_better, number, order, rank, shown
from riseml_proto.errors import InvalidInput, NotFound
from riseml_proto.messages import Member
from riseml_proto.states import State

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["NaN", "x"])


def member(n: int, params: dict[str, str] | None = None, **results: object) -> Member:
    return Member(
        id=f"7.{n}",
        state=State.FINISHED,
        params=params or {},
        gpus=[],
        exit_code=0,
        reason=None,
        started_at=None,
        ended_at=None,
        results=results,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", ["loss", "val_loss", "valLoss", "test-error", "RMSE", "err@1"])
def test_of_losses_and_errors_the_lowest_is_best(name: str) -> None:
    assert is_lower_better(name)


@pytest.mark.parametrize("name", ["accuracy", "f1", "AUC", "bleu", "glossary", "terror", "top_5"])
def test_of_all_else_the_highest_is(name: str) -> None:
    assert not is_lower_better(name)


@given(st.lists(VALUES), st.booleans())
def test_the_best_is_as_good_as_any_and_comes_first_of_equal_ones(
    values: list[object], lowest: bool
) -> None:
    best = rank([member(n, a=v) for n, v in enumerate(values, 1)], "a", lowest=lowest)
    scores = [v for m in best if (v := number(m.results["a"])) is not None]
    assert scores == sorted(scores, reverse=not lowest)
    assert len(best) == sum(number(value) is not None for value in values)
    if best:
        top = min(scores) if lowest else max(scores)
        first = next(n for n, v in enumerate(values, 1) if number(v) == top)
        assert best[0].id == f"7.{first}"


def test_nan_never_wins() -> None:
    best = rank([member(1, a="NaN"), member(2, a=math.nan), member(3, a=0)], "a", lowest=False)
    assert [m.id for m in best] == ["7.3"]


def test_with_one_result_nobody_has_to_say_which() -> None:
    assert criterion([member(1), member(2, a=1, note="x")], None, "7") == "a"


def test_with_several_one_has_to_be_named() -> None:
    with pytest.raises(InvalidInput, match="--by a"):
        criterion([member(1, a=1, b=2)], None, "7")
    assert criterion([member(1, a=1, b=2)], "b", "7") == "b"


def test_an_unknown_result_is_told_with_those_that_there_are() -> None:
    with pytest.raises(NotFound, match="has reported c; there is a, b"):
        criterion([member(1, a=1, b=2)], "c", "7")
    with pytest.raises(NotFound, match=r"riseml\.report_result"):
        criterion([member(1)], None, "7")


def test_a_table_is_ordered_by_a_result_those_without_it_last() -> None:
    members = [member(1), member(2, loss=3), member(3, loss=1)]
    assert [m.id for m in order(members, "loss", reverse=False)] == ["7.3", "7.2", "7.1"]
    assert [m.id for m in order(members, "loss", reverse=True)] == ["7.2", "7.3", "7.1"]


def test_and_by_a_parameter_as_a_number_where_it_is_one() -> None:
    members = [member(n, {"lr": lr}) for n, lr in enumerate(("10", "9", "1e-3", "x"), 1)]
    assert [m.id for m in order(members, "lr", reverse=False)] == ["7.3", "7.2", "7.1", "7.4"]


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(NotFound, match="cannot sort by x; there is a, lr"):
        order([member(1, {"lr": "1"}, a=1)], "x", reverse=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.93, "0.93"), (1 / 3, "0.333333"), (1e-9, "1e-09"), (12345678, "12345678")),
        *((True, "true"), (None, "-"), ("NaN", "NaN")),
    ],
)
def test_a_result_is_shown_short(value: object, text: str) -> None:
    assert shown(value) == text
