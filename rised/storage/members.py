"""The table `members`: one row for each sub-experiment to which something has happened."""

import json
import sqlite3
from collections.abc import Sequence

from rised.policy.outcome import KillMode
from rised.storage.rows import MemberRow
from riseml_proto.states import State

_COLUMNS = ", ".join(MemberRow._fields)
_VALUES = ", ".join("?" for _ in MemberRow._fields)
_SAVE = f"INSERT OR REPLACE INTO members ({_COLUMNS}) VALUES ({_VALUES})"


class MemberTable:
    """Reads and writes; whoever writes has a transaction open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def save(self, row: MemberRow) -> None:
        """Write a row, new or not."""
        self._db.execute(_SAVE, row)

    def get(self, experiment: int, member: int) -> MemberRow | None:
        """One member's row, if it has one."""
        rows = self.between(experiment, member, member)
        return rows[0] if rows else None

    def between(self, experiment: int, first: int, last: int) -> list[MemberRow]:
        """The rows there are of members `first` to `last`, both included, in order."""
        return self._select("member BETWEEN ? AND ? ORDER BY member", experiment, first, last)

    def among(self, experiment: int, members: Sequence[int]) -> list[MemberRow]:
        """The rows there are of `members`, in any order."""
        numbers = json.dumps(members)
        return self._select("member IN (SELECT value FROM json_each(?))", experiment, numbers)

    def unended(self, experiment: int) -> list[MemberRow]:
        """The rows of members that have not ended, in order. Reads all of the experiment's rows."""
        return self._select("ended_ms IS NULL ORDER BY member", experiment)

    def results(
        self, experiment: int, after: int, limit: int
    ) -> list[tuple[int, State, str | None]]:
        """Number, state and results of at most `limit` members beyond `after` that have rows, in order."""
        return self._db.execute(
            "SELECT member, state, results FROM members WHERE experiment = ? AND member > ?"
            " ORDER BY member LIMIT ?",
            (experiment, after, limit),
        ).fetchall()

    def frontier(self, experiment: int, first: int) -> int:
        """The member after the last that was ever started; `first` where none was."""
        row = self._db.execute(
            "SELECT member FROM members WHERE experiment = ? AND attempt > 0"
            " ORDER BY member DESC LIMIT 1",
            (experiment,),
        ).fetchone()
        return row[0] + 1 if row else first

    def rowless(self, experiment: int, first: int, end: int) -> list[int]:
        """The members from `first` and before `end` that have no row: later ones overtook them, then came a crash."""
        where = "WHERE experiment = ? AND member >= ? AND member < ?"
        values = (experiment, first, end)
        (count,) = self._db.execute(f"SELECT count(*) FROM members {where}", values).fetchone()
        if count == end - first:
            return []
        there = {n for (n,) in self._db.execute(f"SELECT member FROM members {where}", values)}
        return [member for member in range(first, end) if member not in there]

    def _select(self, where: str, experiment: int, *values: object) -> list[MemberRow]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM members WHERE experiment = ? AND {where}",
            (experiment, *values),
        )
        return [_row(columns) for columns in rows]


def _row(columns: Sequence[object]) -> MemberRow:
    row = MemberRow(*columns)  # type: ignore[arg-type]  # sqlite3 rows are untyped
    return row._replace(state=State(row.state), kill=KillMode(row.kill))
