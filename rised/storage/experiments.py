"""The table `experiments`: one row for each experiment or set."""

import sqlite3
from collections.abc import Sequence

from rised.policy.outcome import KillMode
from rised.storage.rows import ExperimentRow
from riseml_proto.states import State

_COLUMNS = ", ".join(ExperimentRow._fields)
_NEW_COLUMNS = ", ".join(ExperimentRow._fields[1:])
_NEW_VALUES = ", ".join("?" for _ in ExperimentRow._fields[1:])
_LAST_SEQ = "(SELECT ifnull(max(seq), 0) FROM events)"
_COUNTERS = {State.FINISHED: "finished", State.FAILED: "failed", State.KILLED: "killed"}
"""State → the column that counts members that ended in it."""


class ExperimentTable:
    """Reads and writes; whoever writes has a transaction open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def add(self, row: ExperimentRow) -> ExperimentRow:
        """Insert a new one; return it with its number and its `first_seq`."""
        (seq,) = self._db.execute(f"SELECT {_LAST_SEQ}").fetchone()
        row = row._replace(first_seq=seq)
        number = self._db.execute(
            f"INSERT INTO experiments ({_NEW_COLUMNS}) VALUES ({_NEW_VALUES})", row[1:]
        ).lastrowid
        assert number is not None
        return row._replace(id=number)

    def set_image(self, number: int, image: str) -> None:
        """Write the image that an experiment's jobs run in."""
        self._db.execute("UPDATE experiments SET image = ? WHERE id = ?", (image, number))

    def set_state(self, number: int, state: State) -> None:
        """Write the state of an experiment that goes on."""
        self._db.execute("UPDATE experiments SET state = ? WHERE id = ?", (state, number))

    def count_ends(self, number: int, state: State, count: int) -> None:
        """Add `count` members that ended in `state`."""
        counter = _COUNTERS[state]
        self._db.execute(
            f"UPDATE experiments SET {counter} = {counter} + ? WHERE id = ?", (count, number)
        )

    def end(self, number: int, state: State, time_ms: int, reason: str | None) -> None:
        """Write that an experiment has ended. Its last event has been written."""
        self._db.execute(
            f"UPDATE experiments SET state = ?, reason = ?, ended_ms = ?, last_seq = {_LAST_SEQ}"
            " WHERE id = ?",
            (state, reason, time_ms, number),
        )

    def mark_killed(self, number: int, mode: KillMode) -> None:
        """Note that a person asked for the end of the whole experiment."""
        self._db.execute("UPDATE experiments SET kill = max(kill, ?) WHERE id = ?", (mode, number))

    def change(self, row: ExperimentRow) -> None:
        """Write the priority, pause and concurrency of `row`."""
        self._db.execute(
            "UPDATE experiments SET priority = ?, paused = ?, concurrency = ? WHERE id = ?",
            (row.priority, row.paused, row.concurrency, row.id),
        )

    def get(self, number: int) -> ExperimentRow | None:
        """One experiment."""
        rows = self._select("WHERE id = ?", (number,))
        return rows[0] if rows else None

    def unfinished(self) -> list[ExperimentRow]:
        """Every experiment that has not ended, in order."""
        return self._select("WHERE ended_ms IS NULL ORDER BY id", ())

    def page(self, after: int, limit: int, *, ended: bool) -> list[ExperimentRow]:
        """At most `limit` experiments with a higher number than `after`, in order; unfinished ones, or all."""
        unfinished = "" if ended else "ended_ms IS NULL AND"
        return self._select(f"WHERE {unfinished} id > ? ORDER BY id LIMIT ?", (after, limit))

    def newest(self, user: str, project: str | None) -> int | None:
        """The number of `user`'s newest experiment, of `project` if it is given."""
        where, values = ("AND project = ?", (user, project)) if project else ("", (user,))
        (number,) = self._db.execute(
            f"SELECT max(id) FROM experiments WHERE user = ? {where}", values
        ).fetchone()
        return number  # type: ignore[no-any-return]  # sqlite3 rows are untyped

    def _select(self, where: str, values: Sequence[object]) -> list[ExperimentRow]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM experiments {where}", values)
        return [_row(columns) for columns in rows]


def _row(columns: Sequence[object]) -> ExperimentRow:
    row = ExperimentRow(*columns)  # type: ignore[arg-type]  # sqlite3 rows are untyped
    return row._replace(state=State(row.state), kill=KillMode(row.kill))
