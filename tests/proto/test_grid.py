from collections.abc import Mapping
from decimal import Decimal
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml_proto.grid import MAX_COMBINATIONS, DecimalRange, Grid

NAMES = st.text("abcdefgh-_", min_size=1, max_size=6)
GRIDS = st.dictionaries(
    NAMES,
    st.lists(st.text(max_size=3), min_size=1, max_size=4, unique=True),
    min_size=1,
    max_size=4,
)
WHOLE = st.integers(-10_000, 10_000)


def test_the_seeds_grid_gives_the_seeds_rows_in_its_order() -> None:
    grid = Grid({"lr": ["0.0001", "0.001"], "lr-decay": ["1e-6", "1e-7"], "epochs": ["20", "30"]})
    rows = [", ".join(f"{k}={v}" for k, v in grid.params(n).items()) for n in range(1, 9)]
    assert grid.count == 8
    assert rows == [
        "epochs=20, lr=0.0001, lr-decay=1e-6",
        "epochs=20, lr=0.0001, lr-decay=1e-7",
        "epochs=20, lr=0.001, lr-decay=1e-6",
        "epochs=20, lr=0.001, lr-decay=1e-7",
        "epochs=30, lr=0.0001, lr-decay=1e-6",
        "epochs=30, lr=0.0001, lr-decay=1e-7",
        "epochs=30, lr=0.001, lr-decay=1e-6",
        "epochs=30, lr=0.001, lr-decay=1e-7",
    ]


@given(GRIDS)
def test_each_combination_has_exactly_one_number(values: Mapping[str, list[str]]) -> None:
    grid = Grid(values)
    seen = [tuple(grid.params(n).values()) for n in range(1, grid.count + 1)]
    assert len(set(seen)) == grid.count
    assert all(
        chosen in values[name] for row in seen for name, chosen in zip(grid.names, row, strict=True)
    )


@given(GRIDS)
def test_names_are_sorted_and_the_last_one_varies_fastest(values: Mapping[str, list[str]]) -> None:
    grid = Grid(values)
    assert list(grid.params(1)) == sorted(values)
    digits = [
        [values[name].index(text) for name, text in grid.params(n).items()]
        for n in range(1, grid.count + 1)
    ]
    assert digits == sorted(digits)


@pytest.mark.parametrize("n", [0, -1, 3])
def test_a_number_outside_the_grid_is_refused(n: int) -> None:
    with pytest.raises(IndexError):
        Grid({"a": ["1", "2"]}).params(n)


def test_a_grid_without_values_is_refused() -> None:
    empties: list[dict[str, list[str]]] = [{}, {"a": []}, {"a": ["1"], "b": []}]
    for empty in empties:
        with pytest.raises(ValueError, match="empty grid"):
            Grid(empty)


def test_a_grid_of_too_many_combinations_is_refused_with_their_number() -> None:
    thousand = DecimalRange("1", "1000", "1")
    assert Grid({"a": thousand, "b": thousand, "c": thousand}).count == MAX_COMBINATIONS
    with pytest.raises(ValueError, match="2,000,000,000 combinations"):
        Grid({"a": thousand, "b": thousand, "c": thousand, "d": ("1", "2")})


def test_the_last_of_a_billion_is_found_without_listing_them() -> None:
    grid = Grid({"a": DecimalRange("1", "1000000000", "1")})
    assert grid.params(grid.count) == {"a": "1000000000"}


@pytest.mark.parametrize(
    ("minimum", "maximum", "step", "texts"),
    [
        ("0.1", "0.3", "0.1", "0.1 0.2 0.3"),
        ("1", "3", "1", "1 2 3"),
        ("0.5", "1.25", "0.25", "0.5 0.75 1.0 1.25"),
        ("1", "2", "0.5", "1 1.5 2"),
        ("1.0", "2", "0.5", "1.0 1.5 2.0"),
        ("0", "1", "0.4", "0 0.4 0.8"),
        ("-0.2", "0.2", "0.1", "-0.2 -0.1 0.0 0.1 0.2"),
        ("1e-3", "3e-3", "1e-3", "1e-3 0.002 0.003"),
        ("8", "10", "5e0", "8"),
        ("100", "1e3", "300", "100 400 700 1000"),
        (".5", "+1.", ".5", ".5 1.0"),
        ("1e20", "1e20", "1e-20", "1e20"),
    ],
)
def test_a_range_gives_decimals_with_both_ends(
    minimum: str, maximum: str, step: str, texts: str
) -> None:
    assert " ".join(DecimalRange(minimum, maximum, step)) == texts


@given(WHOLE, WHOLE, st.integers(1, 500), st.integers(0, 6))
def test_a_range_is_exact_at_every_scale(start: int, end: int, step: int, places: int) -> None:
    start, end = sorted((start, end))
    texts = [f"{Decimal(number).scaleb(-places):f}" for number in (start, end, step)]
    values = [Decimal(text) for text in DecimalRange(*texts)]
    assert values == [Decimal(n).scaleb(-places) for n in range(start, end + 1, step)]


def test_a_range_is_a_sequence_that_can_be_cut_and_counted_from_the_end() -> None:
    tens = DecimalRange("10", "50", "10")
    assert (len(tens), tens[-1], tens[1:3], "30" in tens) == (5, "50", ("20", "30"), True)
    with pytest.raises(IndexError):
        tens[5]


@pytest.mark.parametrize(
    ("minimum", "maximum", "step", "problem"),
    [
        ("1", "2", "0", "step must be more than 0, not 0"),
        ("1", "2", "-1", "step must be more than 0, not -1"),
        ("2", "1", "1", "2 is more than 1"),
        ("0", "1e10", "1", "has 10,000,000,001 values"),
        ("1_0", "20", "1", "must be a number"),
        ("nan", "20", "1", "must be a number"),
        ("1", "inf", "1", "must be a number"),
        ("1", "1e999", "1", "must be a number"),
    ],
)
def test_what_is_no_range_is_refused(minimum: str, maximum: str, step: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DecimalRange(minimum, maximum, step)


SORTABLE = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.sampled_from(["10", "9", "1e-3", "x", "nan", "1.0"]), min_size=1, max_size=4)
    | st.integers(1, 4).map(lambda n: DecimalRange("1", str(n), "1")),
    min_size=1,
)


@given(SORTABLE, st.booleans())
def test_the_order_by_a_parameter_has_every_member_once_and_equal_ones_as_they_come(
    parameters: dict[str, list[str]], reverse: bool
) -> None:
    grid = Grid(parameters)
    for name in grid.names:
        order = list(grid.sorted_members(name, reverse=reverse))
        assert sorted(order) == list(range(1, grid.count + 1))
        values = [grid.params(n)[name] for n in order]
        floats = [v for v in values if v not in ("x", "nan")]
        assert floats == sorted(floats, key=float, reverse=reverse)
        assert reverse or values[len(floats) :] == sorted(values[len(floats) :])
        for value in {v for v in values if parameters[name].count(v) == 1}:
            same = [n for n, v in zip(order, values, strict=True) if v == value]
            assert same == sorted(same)


def test_the_first_of_a_billion_come_at_once() -> None:
    thousand = DecimalRange("1", "1000", "1")
    grid = Grid({"a": thousand, "b": thousand, "c": thousand})
    first = list(islice(grid.sorted_members("c", reverse=True), 2))
    assert [grid.params(n) for n in first] == [
        {"a": "1", "b": "1", "c": "1000"},
        {"a": "1", "b": "2", "c": "1000"},
    ]
