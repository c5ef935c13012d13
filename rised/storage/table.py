"""What all tables of rows have in common."""

import sqlite3
from collections.abc import Callable, Iterable
from enum import EnumType
from typing import Any, Generic, TypeVar, get_type_hints

Row = TypeVar("Row", bound=tuple[Any, ...])


class Table(Generic[Row]):
    """Reads and writes; whoever writes has a transaction open."""

    def __init__(self, connection: sqlite3.Connection, name: str, row: Callable[..., Row]) -> None:
        """`row` is a `NamedTuple` that has the table's columns."""
        self._db = connection
        self._row = row
        types = get_type_hints(row)
        self._enums = [(n, t) for n, t in enumerate(types.values()) if isinstance(t, EnumType)]
        columns, values = ", ".join(types), ", ".join("?" for _ in types)
        self._selection = f"SELECT {columns} FROM {name} WHERE"
        self._insertion = f"INSERT OR REPLACE INTO {name} ({columns}) VALUES ({values})"

    def save(self, row: Row) -> None:
        """Write a row, new or not."""
        self._db.execute(self._insertion, row)

    def _select(self, where: str, *values: object) -> list[Row]:
        return [self._read(row) for row in self._db.execute(f"{self._selection} {where}", values)]

    def _first(self, where: str, *values: object) -> Row | None:
        return next(iter(self._select(where, *values)), None)

    def _read(self, columns: Iterable[Any]) -> Row:
        values = list(columns)
        for position, enum in self._enums:
            values[position] = enum(values[position])
        return self._row(*values)
