"""The database: one connection, an object for each table, transactions and flushes.

All of it is used from the daemon's one thread; only `sync` waits for the disk, in another.

Durability: every change is committed before anyone learns of it, which a `kill -9` cannot undo. A change that must
survive a loss of power, too, is followed by `await sync()`, which flushes the write-ahead log: an acknowledged
submission or kill, and a start before the job may begin (for many starts within a short time see `sync_start`). The
calls that arrive while one flush runs share the next.
"""

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator

import trio

from rised.crashpoints import crash_point
from rised.storage.events import EventTable
from rised.storage.experiments import ExperimentTable
from rised.storage.facts import MetaTable, UsageTable
from rised.storage.flush import Flush
from rised.storage.members import JobTable, MemberTable
from rised.storage.rows import EventRow, ExperimentRow, JobRow, MemberRow
from rised.storage.schema import migrate
from riseml_proto.errors import StorageFull

# As long as SQLite lets it grow (1,000 frames). The room is taken at once, so that a disk that is full later still
# takes the ends of jobs, and a kill of the one that filled it.
_WAL_BYTES = 32 + 1000 * (24 + 4096)


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
        self.experiments = ExperimentTable(self._db, "experiments", ExperimentRow)
        self.members = MemberTable(self._db, "members", MemberRow)
        self.events = EventTable(self._db, "events", EventRow)
        self.jobs = JobTable(self._db, "jobs", JobRow)
        self.meta = MetaTable(self._db)
        self.usage = UsageTable(self._db)
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('instance', ?)", (uuid.uuid4().hex,))
        self.instance = self.meta.get("instance") or ""
        self._wal = os.open(self.path + "-wal", os.O_RDWR | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            os.posix_fallocate(self._wal, 0, _WAL_BYTES)
        self._flush = Flush(self._wal)

    def close(self) -> None:
        """Close it; what was committed stays."""
        os.close(self._wal)
        self._db.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make the flushes that `sync_start` put off, until cancelled."""
        await self._flush.run(task_status=task_status)

    async def sync(self) -> None:
        """Return when everything committed so far is on disk. Raises `StorageFull` where the disk refuses."""
        try:
            await self._flush.wait()
        except OSError as error:
            raise StorageFull(f"{self.path}: {error.strerror}; look after this disk") from error

    async def sync_start(self) -> None:
        """Return when a job may begin whose start was committed.

        Many starts within a short time do not wait for a flush each: a job that starts less than `STORM_SECONDS` after
        the last flush may begin before its own one, which comes that much later at most. Raises nothing: it is too late
        to go back.
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
