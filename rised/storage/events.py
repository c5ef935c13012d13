"""The table `events`: every change of state since the submission.

Member 0 is the experiment or set itself. An experiment's events lie between its `first_seq` and its `last_seq`.
"""

import sqlite3
from collections.abc import Sequence

from rised.storage.rows import EventRow, ExperimentRow, MemberChange
from riseml_proto.states import State

_COLUMNS = ", ".join(EventRow._fields)
_NO_SEQ = (1 << 63) - 1
_BEGINNINGS = (State.RUNNING, State.BUILDING)
# `+` keeps the planner from the index by member, whose order is another.
_OF_EXPERIMENT = "seq > ? AND seq <= ? AND +experiment = ?"


class EventTable:
    """Reads and writes; whoever writes has a transaction open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def append(
        self,
        experiment: int,
        state: State,
        time_ms: int,
        reason: str | None = None,
        *,
        attempt: int = 0,
        message: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Write a set's own change of state; `attempt` is its build's, where that begins or ends one."""
        self._insert((experiment, 0, state, attempt, time_ms, reason, message, exit_code))

    def append_change(self, change: MemberChange) -> None:
        """Write a member's change of state."""
        row = change.row
        head = (row.experiment, row.member, row.state, row.attempt)
        self._insert((*head, change.time_ms, row.reason, change.message, row.exit_code))

    def after(
        self, row: ExperimentRow, seq: int, limit: int, member: int | None = None
    ) -> list[EventRow]:
        """At most `limit` events of an experiment after `seq`, in order, of one member if it is given."""
        if member is not None:
            return self._of_member(row.id, member, seq, limit)
        return self._select(
            f"{_OF_EXPERIMENT} ORDER BY seq LIMIT ?",
            (max(seq, row.first_seq), row.last_seq or _NO_SEQ, row.id, limit),
        )

    def beginnings(
        self, row: ExperimentRow, seq: int, limit: int, member: int | None = None
    ) -> list[tuple[EventRow, EventRow | None]]:
        """The events after `seq` that begin attempts, each with the one that ended it, if any."""
        if member is not None:
            events = self._of_member(row.id, member, seq, _NO_SEQ)
            began = [e for e in events if e.state in _BEGINNINGS and e.attempt][:limit]
        else:
            began = self._select(
                f"{_OF_EXPERIMENT} AND state IN ('RUNNING', 'BUILDING') AND attempt > 0"
                " ORDER BY seq LIMIT ?",
                (max(seq, row.first_seq), row.last_seq or _NO_SEQ, row.id, limit),
            )
        return [(event, self._following(event)) for event in began]

    def attempt_of(self, event: EventRow) -> tuple[EventRow, EventRow | None] | None:
        """The attempt that `event` begins or ends, as the events that began it and ended it, if any."""
        if event.state in _BEGINNINGS:
            return event, self._following(event)
        before = self._select(
            "experiment = ? AND member = ? AND seq < ? ORDER BY seq DESC LIMIT 1",
            (event.experiment, event.member, event.seq),
        )
        if before and before[0].state in _BEGINNINGS and before[0].attempt == event.attempt:
            return before[0], event
        return None

    def newest(self, experiment: int, member: int) -> EventRow | None:
        """The newest event of one member."""
        events = self._of_member(experiment, member, 0, 1, "DESC")
        return events[0] if events else None

    def newest_of_members(self, row: ExperimentRow, limit: int) -> list[EventRow]:
        """The newest event of each member, of the `limit` newest ones, rising."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM events WHERE {_OF_EXPERIMENT} ORDER BY seq DESC",
            (row.first_seq, row.last_seq or _NO_SEQ, row.id),
        )
        newest: dict[int, EventRow] = {}
        for columns in rows:
            event = _row(columns)
            newest.setdefault(event.member, event)
            if len(newest) >= limit:
                break
        rows.close()
        return sorted(newest.values())

    def _following(self, event: EventRow) -> EventRow | None:
        events = self._of_member(event.experiment, event.member, event.seq, 1)
        return events[0] if events else None

    def _of_member(
        self, experiment: int, member: int, seq: int, limit: int, order: str = "ASC"
    ) -> list[EventRow]:
        return self._select(
            f"experiment = ? AND member = ? AND seq > ? ORDER BY seq {order} LIMIT ?",
            (experiment, member, seq, limit),
        )

    def _select(self, where: str, values: Sequence[object]) -> list[EventRow]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM events WHERE {where}", values)
        return [_row(columns) for columns in rows]

    def _insert(self, values: tuple[object, ...]) -> None:
        self._db.execute(
            "INSERT INTO events (experiment, member, state, attempt, time_ms, reason, message,"
            " exit_code) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )


def _row(columns: Sequence[object]) -> EventRow:
    row = EventRow(*columns)  # type: ignore[arg-type]  # sqlite3 rows are untyped
    return row._replace(state=State(row.state))
