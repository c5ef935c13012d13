"""What results look like."""

import pytest

from riseml.commands.results_view import cell, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.93, "0.93"), (1 / 3, "0.333333"), (1e-9, "1e-09"), (12345678, "12345678")),
        *((1.0, "1"), (-0.5, "-0.5"), (True, "true"), (None, "-"), ("NaN", "NaN")),
    ],
)
def test_a_result_is_shown_short(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_text_cannot_break_a_table_or_take_its_room() -> None:
    assert shown("a\nb\x1b[2J") == "ab"
    assert cell("x" * 200) == "x" * 23 + "…"
