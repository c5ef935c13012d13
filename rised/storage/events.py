"""The table `events`: every change of state since the submission.

Member 0 is the experiment or set itself. An experiment's events lie between its `first_seq` and its `last_seq`.
"""

from rised.storage.rows import EventRow, ExperimentRow, MemberChange
from rised.storage.table import Table
from riseml_proto.states import State

_NO_SEQ = (1 << 63) - 1
_BEGINNINGS = (State.RUNNING, State.BUILDING)


class EventTable(Table[EventRow]):
    """One row for each change of state."""

    def append(self, change: MemberChange) -> None:
        """Write a change of state; a set's own is that of member 0."""
        row = change.row
        head = (None, row.experiment, row.member, row.state, row.attempt)
        tail = (change.time_ms, row.reason, change.message, row.exit_code)
        self._db.execute(self._insertion, head + tail)

    def after(
        self, row: ExperimentRow, seq: int, limit: int, member: int | None = None
    ) -> list[EventRow]:
        """At most `limit` events of an experiment after `seq`, in order, of one member if it is given."""
        where, values = _after(row, seq, member)
        return self._select(f"{where} ORDER BY seq LIMIT ?", *values, limit)

    def beginnings(
        self, row: ExperimentRow, seq: int, limit: int, member: int | None = None
    ) -> list[tuple[EventRow, EventRow | None]]:
        """The events after `seq` that begin attempts, each with the one that ended it, if any."""
        where, values = _after(row, seq, member)
        where += " AND state IN ('RUNNING', 'BUILDING') AND attempt > 0 ORDER BY seq LIMIT ?"
        began = self._select(where, *values, limit)
        return [(event, self._following(event)) for event in began]

    def attempt_of(self, event: EventRow) -> tuple[EventRow, EventRow | None] | None:
        """The attempt that `event` begins or ends, as the events that began it and ended it, if any."""
        if event.state in _BEGINNINGS:
            return event, self._following(event)
        where = "experiment = ? AND member = ? AND seq < ? ORDER BY seq DESC LIMIT 1"
        before = self._first(where, event.experiment, event.member, event.seq)
        if before and before.state in _BEGINNINGS and before.attempt == event.attempt:
            return before, event
        return None

    def newest(self, experiment: int, member: int) -> EventRow | None:
        """The newest event of one member."""
        where = "experiment = ? AND member = ? ORDER BY seq DESC LIMIT 1"
        return self._first(where, experiment, member)

    def newest_of_members(self, row: ExperimentRow, limit: int) -> list[EventRow]:
        """The newest event of each member, of the `limit` newest ones, rising."""
        where, values = _after(row, 0, None)
        rows = self._db.execute(f"{self._selection} {where} ORDER BY seq DESC", values)
        newest: dict[int, EventRow] = {}
        for columns in rows:
            event = self._read(columns)
            newest.setdefault(event.member, event)
            if len(newest) >= limit:
                break
        rows.close()
        return sorted(newest.values())

    def _following(self, event: EventRow) -> EventRow | None:
        where = "experiment = ? AND member = ? AND seq > ? ORDER BY seq LIMIT 1"
        return self._first(where, event.experiment, event.member, event.seq)


def _after(row: ExperimentRow, seq: int, member: int | None) -> tuple[str, tuple[int, ...]]:
    """The condition for events of an experiment, or of one member, after `seq`, and its values."""
    if member is not None:
        return "experiment = ? AND member = ? AND seq > ?", (row.id, member, seq)
    # `+` keeps the planner from the index by member, whose order is another.
    where = "seq > ? AND seq <= ? AND +experiment = ?"
    return where, (max(seq, row.first_seq), row.last_seq or _NO_SEQ, row.id)
