"""The history of an experiment as its log streams need it (`rised.logs.source`), from events and members."""

from rised.clock import to_datetime
from rised.logs.source import Attempt, Event
from rised.queries.views import Views, rowless
from rised.storage.database import Database
from rised.storage.layout import Layout
from rised.storage.rows import BOARD, BUILD, TRAIN, EventRow, ExperimentRow
from riseml_proto import ids
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import ElidedEntry, EndEntry, HeadEntry, StateEntry
from riseml_proto.states import State

_OPENING_LIMIT = 1000
"""Sub-experiments that have an entry each for their first states; one entry counts the others."""


class StoredHistory:
    """Reads the history of all experiments of one daemon."""

    def __init__(self, database: Database, views: Views, layout: Layout) -> None:
        self._database = database
        self._views = views
        self._layout = layout

    def head(self, target: CanonicalId) -> HeadEntry:
        """The first entry of a stream about `target`."""
        row = self._row(target)
        return HeadEntry(id=ids.experiment_id(row.id, target.member or 0), count=row.members)

    def opening(self, target: CanonicalId) -> list[StateEntry | ElidedEntry]:
        """The states at submission: the set and its first member wait, the others are there.

        As long as it needs an image, nothing of it waits.
        """
        row = self._row(target)
        first = 1 if row.members and not row.builds else 0
        waits = State.CREATED if row.builds else State.PENDING
        entries = [] if target.member else [_initial(row, 0, waits)]
        last = min(row.members, _OPENING_LIMIT)
        members = range(target.member, target.member + 1) if target.member else range(1, last + 1)
        for member in members:
            state = State.PENDING if member == first else State.CREATED
            entries.append(_initial(row, member, state))
        if not target.member and row.members > last:
            return [*entries, _elided(row, State.CREATED, row.members - last)]
        return [*entries]

    def known(self, target: CanonicalId, limit: int) -> list[StateEntry | ElidedEntry]:
        """The states now."""
        row = self._row(target)
        if target.member or target.job or not row.members:
            member = target.member or 0
            last = self._database.events.newest(row.id, member)
            return [_entry(last) if last else self._first_state(row, member)]
        events = self._database.events.newest_of_members(row, limit)
        entries = [_entry(event) for event in events]
        members = {event.member for event in events}
        first = [self._first_state(row, member) for member in (0, 1) if member not in members]
        left = self._views.counts(row)
        for entry in (*first, *entries):
            if entry.id != str(row.id):
                left[entry.state] -= 1
        elided = [_elided(row, State(s), n) for s, n in left.items() if n and s != State.CREATED]
        return [*first, *self._untouched(row, left.get(State.CREATED, 0), limit), *elided, *entries]

    def _first_state(self, row: ExperimentRow, member: int) -> StateEntry:
        """The state of a member, or of the set, that no event tells."""
        if not member:
            return _initial(row, 0, row.state)
        member_row = self._database.members.get(row.id, member)
        return _initial(row, member, member_row.state if member_row else rowless(row)[0])

    def _untouched(
        self, row: ExperimentRow, count: int, limit: int
    ) -> list[StateEntry | ElidedEntry]:
        if not count:
            return []
        if count > limit:
            return [_elided(row, State.CREATED, count)]
        frontier = self._database.members.frontier(row.id, 1)
        touched = {m.member for m in self._database.members.between(row.id, frontier, row.members)}
        untouched = [m for m in range(frontier, row.members + 1) if m not in touched]
        if len(untouched) < count:  # one that is about to start was overtaken by one that has
            untouched = self._database.members.rowless(row.id, 1, frontier) + untouched
        return [_initial(row, member, State.CREATED) for member in untouched]

    def events(self, target: CanonicalId, after: int, limit: int) -> list[Event]:
        """The first `limit` events with a higher `seq` than `after`, without those of the opening."""
        row = self._row(target)
        member = self._only_member(row, target)
        events = self._database.events.after(row, after, limit, member)
        return [self._event(event, target) for event in events]

    def attempts(self, target: CanonicalId, after: int, limit: int) -> list[Attempt]:
        """The first `limit` attempts that began at a higher `seq` than `after`."""
        row = self._row(target)
        if target.job == BOARD:
            return self._board(row)
        pairs = self._database.events.beginnings(row, after, limit, self._only_member(row, target))
        attempts = [self._attempt(began, ended) for began, ended in pairs]
        return [attempt for attempt in attempts if target.job in (None, attempt.job)]

    def _board(self, row: ExperimentRow) -> list[Attempt]:
        """The newest TensorBoard as if it had begun with the experiment: no event tells of it."""
        job = self._database.jobs.get(row.id, BOARD)
        if job is None:
            return []
        log = self._layout.log(row.id, 0, BOARD, job.attempt)
        began = row.first_seq + 1
        ended = began if job.ended_ms else None
        attempt = Attempt(
            row.id, 0, BOARD, job.attempt, log, began, job.started_ms, ended, job.ended_ms
        )
        return [attempt]

    def standing(self, target: CanonicalId) -> EndEntry:
        """State of `target` and counts of its members."""
        row = self._row(target)
        if not target.member:
            return EndEntry(state=row.state, counts=self._views.counts(row))
        member = self._database.members.get(row.id, target.member)
        state = member.state if member else rowless(row)[0]
        return EndEntry(state=state, counts={str(state): 1})

    def _row(self, target: CanonicalId) -> ExperimentRow:
        assert target.experiment is not None
        return self._views.row(target.experiment)

    @staticmethod
    def _only_member(row: ExperimentRow, target: CanonicalId) -> int | None:
        if target.job and not target.member:
            return 0
        return target.member if row.members else None

    def _event(self, event: EventRow, target: CanonicalId) -> Event:
        attempt = None
        if event.attempt and event.state is not State.STARTING:
            pair = self._database.events.attempt_of(event)
            attempt = self._attempt(*pair) if pair else None
        if attempt and target.job not in (None, attempt.job):
            attempt = None
        return Event(_entry(event), event.time_ms, attempt)

    def _attempt(self, began: EventRow, ended: EventRow | None) -> Attempt:
        job = BUILD if began.state is State.BUILDING else TRAIN
        return Attempt(
            began.experiment,
            began.member,
            job,
            began.attempt,
            self._layout.log(began.experiment, began.member, job, began.attempt),
            began.seq,
            began.time_ms,
            ended.seq if ended else None,
            ended.time_ms if ended else None,
        )


def _initial(row: ExperimentRow, member: int, state: State) -> StateEntry:
    return StateEntry(
        id=ids.experiment_id(row.id, member),
        time=to_datetime(row.created_ms),
        state=state,
        seq=0,
    )


def _elided(row: ExperimentRow, state: State, count: int) -> ElidedEntry:
    return ElidedEntry(id=str(row.id), time=to_datetime(row.created_ms), state=state, count=count)


def _entry(event: EventRow) -> StateEntry:
    return StateEntry(
        id=ids.experiment_id(event.experiment, event.member),
        time=to_datetime(event.time_ms),
        state=event.state,
        seq=event.seq,
        reason=event.reason,
        message=event.message,
        exit_code=event.exit_code,
    )
