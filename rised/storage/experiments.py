"""The table `experiments`, and the owners in its rows."""

import functools

import msgspec

from rised.policy.outcome import KillMode
from rised.storage.rows import ExperimentRow
from rised.storage.table import Table
from rised.users.owner import Owner, of_user
from riseml_proto.states import State

_LAST_SEQ = "(SELECT ifnull(max(seq), 0) FROM events)"
_COUNTERS = {State.FINISHED: "finished", State.FAILED: "failed", State.KILLED: "killed"}
"""State → the column that counts members that ended in it."""


class ExperimentTable(Table[ExperimentRow]):
    """One row for each experiment or set."""

    def add(self, row: ExperimentRow) -> ExperimentRow:
        """Insert a new one; return it with its number and its `first_seq`."""
        (seq,) = self._db.execute(f"SELECT {_LAST_SEQ}").fetchone()
        row = row._replace(first_seq=seq)
        number = self._db.execute(self._insertion, (None, *row[1:])).lastrowid
        assert number is not None
        return row._replace(id=number)

    def update(self, number: int, **columns: object) -> None:
        """Write some columns of an experiment that goes on."""
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self._db.execute(
            f"UPDATE experiments SET {assignments} WHERE id = ?", (*columns.values(), number)
        )

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

    def get(self, number: int) -> ExperimentRow | None:
        """One experiment."""
        return self._first("id = ?", number)

    def unfinished(self) -> list[ExperimentRow]:
        """Every experiment that has not ended, in order."""
        return self._select("ended_ms IS NULL ORDER BY id")

    def page(self, after: int, limit: int, *, ended: bool) -> list[ExperimentRow]:
        """At most `limit` experiments with a higher number than `after`, in order; unfinished ones, or all."""
        unfinished = "" if ended else "ended_ms IS NULL AND"
        return self._select(f"{unfinished} id > ? ORDER BY id LIMIT ?", after, limit)

    def newest(self, user: str, project: str | None) -> int | None:
        """The number of `user`'s newest experiment, of `project` if it is given."""
        where, values = ("AND project = ?", (user, project)) if project else ("", (user,))
        (number,) = self._db.execute(
            f"SELECT max(id) FROM experiments WHERE user = ? {where}", values
        ).fetchone()
        return number  # type: ignore[no-any-return]  # sqlite3 rows are untyped


def encode_owner(owner: Owner) -> str:
    """The value of the column `owner`: JSON."""
    return msgspec.json.encode(owner).decode()


def owner_of(row: ExperimentRow) -> Owner:
    """The owner of an experiment; from the user database where it was submitted to a person's own daemon."""
    return _decode_owner(row.owner) if row.owner else of_user(row.uid)


@functools.lru_cache(maxsize=1024)
def _decode_owner(text: str) -> Owner:
    return msgspec.json.decode(text, type=Owner)
