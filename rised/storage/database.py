"""The database, open. All of it is used from the daemon's one thread; only `sync` waits for the disk, in another.

Durability: every change is committed before anyone is told of it, which a `kill -9` cannot undo. What must survive a
loss of power too is followed by `await sync()`, which flushes the write-ahead log: an acknowledged submission or kill,
and a start before the job may begin (`sync_start` says what a storm of starts is allowed). The calls that arrive while
one flush runs share the next.
"""

import contextlib
import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence

import trio

from rised.crashpoints import crash_point
from rised.policy.fairshare import Used
from rised.policy.outcome import KillMode
from rised.storage.flush import Flush
from rised.storage.rows import EventRow, ExperimentRow, JobRow, MemberChange, MemberRow
from rised.storage.schema import migrate
from riseml_proto.errors import StorageFull
from riseml_proto.states import State

BUILD, BOARD = "build", "tensorboard"
_BEGINNINGS = (State.RUNNING, State.BUILDING)
_COUNTERS = {State.FINISHED: "finished", State.FAILED: "failed", State.KILLED: "killed"}
_MEMBER_COLUMNS = ", ".join(MemberRow._fields)
_MEMBER_VALUES = ", ".join("?" for _ in MemberRow._fields)
# As long as SQLite lets it grow (1,000 frames). The room is taken at once, so that a disk that is full later still
# takes the ends of jobs, and a kill of the one that filled it.
_WAL_BYTES = 32 + 1000 * (24 + 4096)
_NO_SEQ = (1 << 63) - 1
_EVENT_COLUMNS = ", ".join(EventRow._fields)


class Database:
    """The database in `state_dir`, made or brought up to date on opening."""

    def __init__(self, state_dir: str) -> None:
        """Open it. Raises `DaemonError` for a newer database, `sqlite3.DatabaseError` for a damaged one."""
        self.path = os.path.join(state_dir, "rised.db")
        self._db = sqlite3.connect(self.path, isolation_level=None, cached_statements=256)
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA temp_store = MEMORY")
        migrate(self._db, self.path)
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('instance', ?)", (uuid.uuid4().hex,))
        (self.instance,) = self._db.execute(
            "SELECT value FROM meta WHERE name = 'instance'"
        ).fetchone()
        self._wal = os.open(self.path + "-wal", os.O_RDWR | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            os.posix_fallocate(self._wal, 0, _WAL_BYTES)
        self._flush = Flush(self._wal)

    def close(self) -> None:
        """Close it; what was committed stays."""
        os.close(self._wal)
        self._db.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush what `sync_start` put off, until cancelled."""
        await self._flush.run(task_status=task_status)

    async def sync(self) -> None:
        """Return when everything committed so far is on disk. Raises `StorageFull` where the disk refuses."""
        try:
            await self._flush.wait()
        except OSError as error:
            raise StorageFull(f"{self.path}: {error.strerror}; look after this disk") from error

    async def sync_start(self) -> None:
        """The same for a job that is about to begin.

        Where starts come thick and fast they do not wait for a flush each: one that comes less than `STORM_SECONDS`
        after the last flush may begin while its own is still to come, that much later at most. Raises nothing: it is
        too late to go back.
        """
        await self._flush.wait_or_later()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside, or nothing. Raises `StorageFull` where the disk has no room."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                crash_point("before-commit")
                self._db.execute("COMMIT")
                crash_point("after-commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise
            raise StorageFull(
                f"no room left on the disk of {os.path.dirname(self.path)}; free some"
            ) from error

    # Writing: inside a transaction.

    def add_experiment(
        self,
        *,
        user: str,
        uid: int,
        project: str,
        revision: str,
        config: str,
        config_file: str,
        env: Mapping[str, str],
        members: int,
        created_ms: int,
        image: str | None = None,
        build: bool = False,
        owner: str | None = None,
        priority: int = 0,
    ) -> int:
        """Add one in state PENDING, its first member waiting with it; return its number.

        These first states are no events: `events` are what happened since. With `build` it was CREATED, like all its
        members, and is BUILDING.
        """
        number = self._db.execute(
            "INSERT INTO experiments (user, uid, project, revision, config, config_file, env, members,"
            " state, created_ms, first_seq, image, builds, owner, priority)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                user,
                uid,
                project,
                revision,
                config,
                config_file,
                json.dumps(dict(env)),
                members,
                State.BUILDING if build else State.PENDING,
                created_ms,
                self._last_seq(),
                image,
                int(build),
                owner,
                priority,
            ),
        ).lastrowid
        assert number is not None
        if not build:
            self.put_member(MemberRow(number, 1 if members else 0, State.PENDING))
            return number
        if not members:
            self.put_member(MemberRow(number, 0, State.BUILDING))
        self.put_job(JobRow(number, BUILD, 1, created_ms))
        self.tell_experiment(number, State.BUILDING, created_ms, attempt=1)
        return number

    def set_image(self, number: int, image: str) -> None:
        """Write the image that an experiment's jobs run in."""
        self._db.execute("UPDATE experiments SET image = ? WHERE id = ?", (image, number))

    def put_member(self, row: MemberRow) -> None:
        """Write one member's row."""
        self._db.execute(
            f"INSERT OR REPLACE INTO members ({_MEMBER_COLUMNS}) VALUES ({_MEMBER_VALUES})",
            row,
        )

    def put_job(self, row: JobRow) -> None:
        """Write one job of an experiment itself."""
        self._db.execute(
            f"INSERT OR REPLACE INTO jobs ({', '.join(JobRow._fields)}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    def tell_member(self, change: MemberChange) -> None:
        """Write the event of a member's change of state."""
        row = change.row
        place = (row.experiment, row.member, row.state, row.attempt)
        self._add_event((*place, change.time_ms, row.reason, change.message, row.exit_code))

    def tell_experiment(
        self,
        number: int,
        state: State,
        time_ms: int,
        reason: str | None = None,
        *,
        attempt: int = 0,
        message: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Write the event of a set's own change of state; `attempt` is its build's, where that begins or ends one."""
        self._add_event((number, 0, state, attempt, time_ms, reason, message, exit_code))

    def count_ends(self, number: int, state: State, count: int) -> None:
        """Add `count` members that ended in `state` to the experiment's."""
        counter = _COUNTERS[state]
        self._db.execute(
            f"UPDATE experiments SET {counter} = {counter} + ? WHERE id = ?", (count, number)
        )

    def set_state(self, number: int, state: State) -> None:
        """Write the state of an experiment that goes on."""
        self._db.execute("UPDATE experiments SET state = ? WHERE id = ?", (state, number))

    def end_experiment(self, number: int, state: State, time_ms: int, reason: str | None) -> None:
        """Write that an experiment has ended. Its last event has been written."""
        self._db.execute(
            "UPDATE experiments SET state = ?, reason = ?, ended_ms = ?, last_seq = ? WHERE id = ?",
            (state, reason, time_ms, self._last_seq(), number),
        )

    def mark_killed(self, number: int, mode: KillMode) -> None:
        """Note that a person asked for the end of the whole experiment."""
        self._db.execute("UPDATE experiments SET kill = max(kill, ?) WHERE id = ?", (mode, number))

    def change_experiment(self, row: ExperimentRow) -> None:
        """Write an experiment's priority, pause and concurrency."""
        self._db.execute(
            "UPDATE experiments SET priority = ?, paused = ?, concurrency = ? WHERE id = ?",
            (row.priority, row.paused, row.concurrency, row.id),
        )

    def put_usage(self, uid: int, used: Used) -> None:
        """Write what a user has used."""
        self._db.execute("INSERT OR REPLACE INTO usage VALUES (?, ?, ?)", (uid, *used))

    def put_meta(self, name: str, value: str | None) -> None:
        """Write a fact about the whole daemon; None removes it."""
        if value is None:
            self._db.execute("DELETE FROM meta WHERE name = ?", (name,))
        else:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _add_event(self, values: tuple[object, ...]) -> None:
        self._db.execute(
            "INSERT INTO events (experiment, member, state, attempt, time_ms, reason, message,"
            " exit_code) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )

    def _last_seq(self) -> int:
        (seq,) = self._db.execute("SELECT max(seq) FROM events").fetchone()
        return int(seq or 0)

    # Reading.

    def usage(self) -> dict[int, Used]:
        """What each user has used, by uid."""
        return {
            uid: Used(*used)
            for uid, *used in self._db.execute("SELECT uid, gpu_seconds, at_ms FROM usage")
        }

    def meta(self, name: str) -> str | None:
        """A fact about the whole daemon."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def experiment(self, number: int) -> ExperimentRow | None:
        """One experiment."""
        found = self._experiments("WHERE id = ?", (number,))
        return found[0] if found else None

    def unfinished(self) -> list[ExperimentRow]:
        """Every experiment that has not ended, in order."""
        return self._experiments("WHERE ended_ms IS NULL ORDER BY id", ())

    def experiments(self, after: int, limit: int, *, ended: bool) -> list[ExperimentRow]:
        """At most `limit` experiments with a higher number than `after`, in order; unfinished ones, or all."""
        which = "" if ended else "ended_ms IS NULL AND"
        return self._experiments(f"WHERE {which} id > ? ORDER BY id LIMIT ?", (after, limit))

    def last(self, user: str, project: str | None) -> int | None:
        """The number of `user`'s newest experiment, of `project` if it is given."""
        where, values = ("AND project = ?", (user, project)) if project else ("", (user,))
        (number,) = self._db.execute(
            f"SELECT max(id) FROM experiments WHERE user = ? {where}",
            values,
        ).fetchone()
        return number  # type: ignore[no-any-return]  # sqlite3 rows are untyped

    def _experiments(self, where: str, values: Sequence[object]) -> list[ExperimentRow]:
        rows = self._db.execute(
            f"SELECT {', '.join(ExperimentRow._fields)} FROM experiments {where}",
            values,
        )
        return [_experiment(row) for row in rows]

    def job(self, experiment: int, job: str) -> JobRow | None:
        """The newest attempt of one job of an experiment itself, such as `build`."""
        found = self._db.execute(
            f"SELECT {', '.join(JobRow._fields)} FROM jobs WHERE experiment = ? AND job = ?",
            (experiment, job),
        ).fetchone()
        return JobRow(*found) if found else None

    def unended_jobs(self) -> list[JobRow]:
        """The jobs of experiments themselves that have not ended."""
        rows = self._db.execute(
            f"SELECT {', '.join(JobRow._fields)} FROM jobs WHERE ended_ms IS NULL"
        )
        return [JobRow(*row) for row in rows]

    def member(self, experiment: int, member: int) -> MemberRow | None:
        """One member's row, if anything has happened to it."""
        rows = self.members(experiment, member, member)
        return rows[0] if rows else None

    def members(self, experiment: int, first: int, last: int) -> list[MemberRow]:
        """The rows there are of members `first` to `last`, both included, in order."""
        return [
            _member(row)
            for row in self._db.execute(
                f"SELECT {_MEMBER_COLUMNS} FROM members"
                " WHERE experiment = ? AND member BETWEEN ? AND ? ORDER BY member",
                (experiment, first, last),
            )
        ]

    def chosen(self, experiment: int, members: Sequence[int]) -> list[MemberRow]:
        """The rows there are of `members`, in any order."""
        return [
            _member(row)
            for row in self._db.execute(
                f"SELECT {_MEMBER_COLUMNS} FROM members"
                " WHERE experiment = ? AND member IN (SELECT value FROM json_each(?))",
                (experiment, json.dumps(members)),
            )
        ]

    def results(
        self, experiment: int, after: int, limit: int
    ) -> list[tuple[int, State, str | None]]:
        """Number, state and results of at most `limit` members beyond `after` that have rows, in order."""
        return self._db.execute(
            "SELECT member, state, results FROM members WHERE experiment = ? AND member > ?"
            " ORDER BY member LIMIT ?",
            (experiment, after, limit),
        ).fetchall()

    def unended_members(self, experiment: int) -> list[MemberRow]:
        """The rows of members that have not ended, in order. Looks at all of the experiment's rows."""
        return [
            _member(row)
            for row in self._db.execute(
                f"SELECT {_MEMBER_COLUMNS} FROM members"
                " WHERE experiment = ? AND ended_ms IS NULL ORDER BY member",
                (experiment,),
            )
        ]

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
        where, values = (
            "WHERE experiment = ? AND member >= ? AND member < ?",
            (experiment, first, end),
        )
        (count,) = self._db.execute(f"SELECT count(*) FROM members {where}", values).fetchone()
        if count == end - first:
            return []
        there = {n for (n,) in self._db.execute(f"SELECT member FROM members {where}", values)}
        return [member for member in range(first, end) if member not in there]

    def events(
        self, row: ExperimentRow, after: int, limit: int, member: int | None = None
    ) -> list[EventRow]:
        """At most `limit` events with a higher `seq` than `after`, in order, of one member if it is given."""
        if member is not None:
            return self._member_events(row.id, member, after, limit)
        # `+` keeps the planner from the index by member, whose order is another.
        rows = self._db.execute(
            f"SELECT {_EVENT_COLUMNS} FROM events"
            " WHERE seq > ? AND seq <= ? AND +experiment = ? ORDER BY seq LIMIT ?",
            (max(after, row.first_seq), row.last_seq or _NO_SEQ, row.id, limit),
        )
        return [_event(found) for found in rows]

    def _member_events(
        self, experiment: int, member: int, after: int, limit: int, order: str = "ASC"
    ) -> list[EventRow]:
        rows = self._db.execute(
            f"SELECT {_EVENT_COLUMNS} FROM events"
            f" WHERE experiment = ? AND member = ? AND seq > ? ORDER BY seq {order} LIMIT ?",
            (experiment, member, after, limit),
        )
        return [_event(found) for found in rows]

    def begun(
        self, row: ExperimentRow, after: int, limit: int, member: int | None = None
    ) -> list[tuple[EventRow, EventRow | None]]:
        """The events that begin attempts with a higher `seq` than `after`, each with the one that ended it, if any."""
        if member is not None:
            began = [
                event
                for event in self._member_events(row.id, member, after, _NO_SEQ)
                if event.state in _BEGINNINGS and event.attempt
            ]
            return [(event, self._following(event)) for event in began[:limit]]
        rows = self._db.execute(
            f"SELECT {_EVENT_COLUMNS} FROM events WHERE seq > ? AND seq <= ? AND +experiment = ?"
            " AND state IN ('RUNNING', 'BUILDING') AND attempt > 0 ORDER BY seq LIMIT ?",
            (max(after, row.first_seq), row.last_seq or _NO_SEQ, row.id, limit),
        ).fetchall()
        return [(event, self._following(event)) for event in map(_event, rows)]

    def beginning(self, event: EventRow) -> tuple[EventRow, EventRow | None] | None:
        """The attempt that `event` begins or ends, as the events that began it and ended it, if any."""
        if event.state in _BEGINNINGS:
            return event, self._following(event)
        rows = self._db.execute(
            f"SELECT {_EVENT_COLUMNS} FROM events WHERE experiment = ? AND member = ?"
            " AND seq < ? ORDER BY seq DESC LIMIT 1",
            (event.experiment, event.member, event.seq),
        ).fetchall()
        before = _event(rows[0]) if rows else None
        if before and before.state in _BEGINNINGS and before.attempt == event.attempt:
            return before, event
        return None

    def _following(self, event: EventRow) -> EventRow | None:
        found = self._member_events(event.experiment, event.member, event.seq, 1)
        return found[0] if found else None

    def last_event(self, experiment: int, member: int) -> EventRow | None:
        """The newest event of one member."""
        found = self._member_events(experiment, member, 0, 1, "DESC")
        return found[0] if found else None

    def last_events(self, row: ExperimentRow, limit: int) -> list[EventRow]:
        """The newest event of each member, of the `limit` newest ones, rising."""
        rows = self._db.execute(
            f"SELECT {_EVENT_COLUMNS} FROM events"
            " WHERE seq > ? AND seq <= ? AND +experiment = ? ORDER BY seq DESC",
            (row.first_seq, row.last_seq or _NO_SEQ, row.id),
        )
        newest: dict[int, EventRow] = {}
        for found in rows:
            event = _event(found)
            newest.setdefault(event.member, event)
            if len(newest) >= limit:
                break
        rows.close()
        return sorted(newest.values())


def _experiment(columns: Sequence[object]) -> ExperimentRow:
    row = ExperimentRow(*columns)  # type: ignore[arg-type]  # sqlite3 rows are untyped
    return row._replace(state=State(row.state), kill=KillMode(row.kill))


def _event(row: Sequence[object]) -> EventRow:
    found = EventRow(*row)  # type: ignore[arg-type]  # sqlite3 rows are untyped
    return found._replace(state=State(found.state))


def _member(row: Sequence[object]) -> MemberRow:
    found = MemberRow(*row)  # type: ignore[arg-type]  # sqlite3 rows are untyped
    return found._replace(state=State(found.state), kill=KillMode(found.kill))
