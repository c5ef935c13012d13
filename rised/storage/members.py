"""The tables `members` and `jobs`: what runs for experiments."""

import json
from collections.abc import Sequence

from rised.storage.rows import JobRow, MemberRow
from rised.storage.table import Table
from riseml_proto.states import State


class MemberTable(Table[MemberRow]):
    """One row for each sub-experiment to which something has happened."""

    def get(self, experiment: int, member: int) -> MemberRow | None:
        """One member's row, if it has one."""
        return self._first("experiment = ? AND member = ?", experiment, member)

    def between(self, experiment: int, first: int, last: int) -> list[MemberRow]:
        """The rows there are of members `first` to `last`, both included, in order."""
        return self._select(
            "experiment = ? AND member BETWEEN ? AND ? ORDER BY member", experiment, first, last
        )

    def among(self, experiment: int, members: Sequence[int]) -> list[MemberRow]:
        """The rows there are of `members`, in any order."""
        return self._select(
            "experiment = ? AND member IN (SELECT value FROM json_each(?))",
            experiment,
            json.dumps(members),
        )

    def unended(self, experiment: int) -> list[MemberRow]:
        """The rows of members that have not ended, in order. Reads all of the experiment's rows."""
        return self._select("experiment = ? AND ended_ms IS NULL ORDER BY member", experiment)

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


class JobTable(Table[JobRow]):
    """An experiment's jobs beside those of its members, of each the newest attempt."""

    def get(self, experiment: int, job: str) -> JobRow | None:
        """The newest attempt of one job, such as `BUILD`."""
        return self._first("experiment = ? AND job = ?", experiment, job)

    def unended(self) -> list[JobRow]:
        """The jobs of all experiments that have not ended."""
        return self._select("ended_ms IS NULL")
