"""Tables: columns with one blank between them, the last one of any length.

A column is as wide as its widest cell or its title. The titles of states and ages end with blanks for the
longest possible value, so that the table keeps its shape while states change.
"""

from collections.abc import Sequence

from riseml.screen import cut, paint
from riseml_proto.states import State

STATE = f"{'STATE':<{len('STARTING') + 1}}"
AGE = f"{'AGE':<{len('59 second(s)') + 1}}"


def render(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    colour: bool = False,
    width: int | None = None,
) -> list[str]:
    """The table's lines, titles first, cut to `width` columns if given. Cells must be `clean`."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = []
    for row in (titles, *rows):
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        if colour and row is not titles and STATE in titles:
            index = titles.index(STATE)
            cells[index] = paint(State(row[index]), cells[index])
        line = " ".join(cells).rstrip()
        lines.append(line if width is None else cut(line, width))
    return lines
