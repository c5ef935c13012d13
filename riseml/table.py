"""Tables: columns with one blank between them, the last one of any length.

A column is as wide as its widest cell. A column of states or ages has a least width, one blank more
than its longest possible value, so that the table keeps its shape while states change.
"""

from collections.abc import Sequence
from typing import NamedTuple

from riseml.screen import cut, paint
from riseml_proto.states import State

STATE_WIDTH = len("STARTING") + 1
AGE_WIDTH = len("59 second(s)") + 1


class Column(NamedTuple):
    """A column's title and least width."""

    title: str
    width: int = 0


ID = Column("ID")
STATE = Column("STATE", STATE_WIDTH)
AGE = Column("AGE", AGE_WIDTH)


def render(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    colour: bool = False,
    width: int | None = None,
) -> list[str]:
    """The table's lines, titles first, cut to `width` columns if given. Cells must be `clean`."""
    titles = [column.title for column in columns]
    widths = [
        max(column.width, len(column.title), *(len(row[i]) for row in rows), 0)
        for i, column in enumerate(columns[:-1])
    ]
    lines = []
    for row in (titles, *rows):
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)] + [row[-1]]
        if colour and row is not titles and STATE in columns:
            index = columns.index(STATE)
            cells[index] = paint(State(row[index]), cells[index])
        line = " ".join(cells).rstrip()
        lines.append(line if width is None else cut(line, width))
    return lines
