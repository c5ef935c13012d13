"""The store: what is committed stays, what is not leaves no trace, and every reading is what was written."""

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rised.policy.outcome import KillMode
from rised.storage.database import Database
from rised.storage.rows import EventRow, ExperimentRow, MemberChange, MemberRow
from rised.storage.schema import MIGRATIONS
from riseml_proto.errors import DaemonError, StorageFull
from riseml_proto.states import Reason, State


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[Database]:
    directory.mkdir(exist_ok=True)
    with contextlib.closing(Database(str(directory))) as database:
        yield database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path / "state") as made:
        yield made


def add(
    database: Database, *, user: str = "paul", project: str = "toaster", members: int = 3
) -> int:
    """Add an experiment; inside a transaction."""
    row = ExperimentRow(
        id=0,
        user=user,
        uid=1000,
        project=project,
        revision="0" * 40,
        config="project: toaster",
        config_file="riseml.yml",
        env='{"PATH": "/bin"}',
        members=members,
        state=State.PENDING,
        created_ms=1,
    )
    number = database.experiments.add(row).id
    database.members.save(MemberRow(number, 1 if members else 0, State.PENDING))
    return number


def put(database: Database, number: int, *texts: str) -> None:
    """Write changes such as `2 RUNNING 1`: member, state and attempt; inside a transaction."""
    for text in texts:
        member, state, attempt = text.split()
        row = MemberRow(number, int(member), State(state), int(attempt))
        if row.state.ended:
            row = row._replace(ended_ms=5, exit_code=0, reason=Reason.COMPLETED)
        database.members.save(row)
        database.events.append(MemberChange(row, 5))


def texts(events: list[EventRow]) -> list[str]:
    return [f"{event.member} {event.state} {event.attempt}" for event in events]


def experiment(database: Database, number: int) -> ExperimentRow:
    found = database.experiments.get(number)
    assert found is not None
    return found


def test_what_was_written_is_read_back(database: Database) -> None:
    row = MemberRow(
        1, 2, State.FAILED, 3, 1, '[[0, "GPU-1"]]', "{}", KillMode.FORCE, 137, Reason.ERROR, 10, 20
    )
    with database.transaction():
        assert add(database) == 1
        database.members.save(row)
        database.events.append(MemberChange(row, 20, "told"))
    assert database.members.get(1, 2) == row
    assert database.members.get(1, 3) is None
    assert database.members.between(1, 1, 3) == [MemberRow(1, 1, State.PENDING), row]
    assert database.events.newest(1, 2) == EventRow(
        1, 1, 2, State.FAILED, 3, 20, Reason.ERROR, "told", 137
    )
    found = experiment(database, 1)
    assert (found.user, found.uid, found.members, found.state) == ("paul", 1000, 3, State.PENDING)
    assert found.env == '{"PATH": "/bin"}'
    assert database.experiments.get(2) is None


def test_a_transaction_that_fails_leaves_no_trace(database: Database) -> None:
    with database.transaction():
        add(database)

    def fail() -> None:
        with database.transaction():
            put(database, add(database), "1 RUNNING 1")
            database.experiments.mark_killed(1, KillMode.FORCE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.experiments.get(2) is None
    assert database.members.between(2, 0, 9) == []
    assert experiment(database, 1).kill is KillMode.NONE
    with database.transaction():
        assert add(database) == 2
    assert database.events.after(experiment(database, 2), 0, 9) == []


def test_a_transaction_without_room_leaves_no_trace_and_can_be_tried_again(
    database: Database,
) -> None:
    (pages,) = database._db.execute("PRAGMA page_count").fetchone()
    database._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own word for a full disk

    def fill() -> None:
        while True:
            with database.transaction():
                number = add(database)
                put(database, number, *(f"{member} STARTING 1" for member in range(1, 100)))

    with pytest.raises(StorageFull, match="no room left on the disk"):
        fill()
    before = database.experiments.unfinished()
    assert all(len(database.events.after(row, 0, 999)) == 99 for row in before)
    database._db.execute("PRAGMA max_page_count = 100000")
    with database.transaction():
        assert add(database) == len(before) + 1


def copies(source: Path, to: Path) -> tuple[Path, bytes]:
    """Copy a state directory as a crash would leave it; return the copy and the log of changes in it."""
    shutil.copytree(source, to)
    log = to / "rised.db-wal"
    used = log.read_bytes().rstrip(b"\0")
    log.unlink()
    return to, used


def test_a_log_of_changes_cut_anywhere_gives_a_whole_earlier_state(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as database:
        for _ in range(3):
            with database.transaction():
                number = add(database)
                put(database, number, "1 STARTING 1", "1 RUNNING 1", "1 FINISHED 1")
                database.experiments.count_ends(number, State.FINISHED, 1)
        copy, log = copies(tmp_path / "state", tmp_path / "copy")
    seen = []
    content = (copy / "rised.db").read_bytes()
    page = 4096 + 24
    frames = (len(log) - 32 + page - 1) // page
    edges = [32 + page * n + at for n in range(frames) for at in (-1, 0, 1, page // 2)]
    for length in [0, 1, *edges, len(log)]:
        (copy / "rised.db").write_bytes(content)
        (copy / "rised.db-wal").write_bytes(log[:length])
        with opened(copy) as database:
            rows = database.experiments.unfinished()
            assert [row.id for row in rows] == list(range(1, len(rows) + 1))
            for row in rows:
                assert row.finished == 1
                assert [m.state for m in database.members.between(row.id, 1, 3)] == [State.FINISHED]
                assert len(database.events.after(row, 0, 9)) == 3
        seen.append(len(rows))
    assert seen == sorted(seen)
    assert set(seen) == set(range(4))


def test_a_bit_that_flips_in_the_log_of_changes_ends_it_there(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as database:
        for _ in range(3):
            with database.transaction():
                add(database)
        copy, log = copies(tmp_path / "state", tmp_path / "copy")
    flipped = bytearray(log)
    flipped[-2000] ^= 1
    (copy / "rised.db-wal").write_bytes(flipped)
    with opened(copy) as database:
        assert [row.id for row in database.experiments.unfinished()] in ([1], [1, 2])


def test_the_room_for_the_log_of_changes_is_taken_at_once(database: Database) -> None:
    found = Path(database.path + "-wal").stat()
    assert found.st_size >= 1000 * 4096
    assert found.st_blocks * 512 >= found.st_size
    with database.transaction():
        add(database)
    assert Path(database.path + "-wal").stat().st_size == found.st_size


def test_the_state_has_one_name_for_ever(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        name = first.instance
    with opened(tmp_path) as second:
        assert second.instance == name


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "rised.db")) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(DaemonError, match="written by a newer rised"):
        Database(str(tmp_path))


PATIENCE = 5.0
"""Seconds after which something that should have happened counts as not happening."""


async def in_time(main: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(PATIENCE):
        await main()


class SlowDisk:
    """Counts flushes and holds them up until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[int] = []
        self.may_end = threading.Semaphore(0)
        self._flush = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._wait)

    def _wait(self, fd: int) -> None:
        self.begun.append(fd)
        self.may_end.acquire(timeout=PATIENCE)
        self._flush(fd)


def test_callers_that_come_while_a_flush_runs_share_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    done = []

    async def caller(name: int) -> None:
        await database.sync()
        done.append(name)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller, 0)
            await wait_all_tasks_blocked(0.01)
            for name in range(1, 6):
                nursery.start_soon(caller, name)
            await wait_all_tasks_blocked(0.01)
            assert len(disk.begun) == 1
            disk.may_end.release()
            while len(disk.begun) < 2:
                await trio.lowlevel.checkpoint()
            # What came after a flush had begun is not covered by it.
            assert done == [0]
            disk.may_end.release()
        assert sorted(done) == [0, 1, 2, 3, 4, 5]
        assert len(disk.begun) == 2

    trio.run(in_time, main)


def test_a_start_in_a_storm_does_not_wait_and_is_flushed_a_moment_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    disk.may_end.release()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(database.run)
            await database.sync_start()
            assert len(disk.begun) == 1
            database._flush._last = trio.current_time()  # however long this machine took
            await database.sync_start()
            assert len(disk.begun) == 1
            while len(disk.begun) < 2:
                await trio.lowlevel.checkpoint()
            disk.may_end.release()
            nursery.cancel_scope.cancel()

    trio.run(in_time, main)


def test_a_disk_that_refuses_a_flush_is_told_of(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(StorageFull, match="Input/output error"):
        trio.run(database.sync)


def test_the_frontier_is_the_member_after_the_last_that_was_started(database: Database) -> None:
    with database.transaction():
        add(database, members=9)
    assert database.members.frontier(1, 1) == 1
    with database.transaction():
        put(database, 1, "1 RUNNING 1", "4 FAILED 2", "5 PENDING 0", "7 KILLED 0")
    assert database.members.frontier(1, 1) == 5
    assert database.members.rowless(1, 1, 5) == [2, 3]
    with database.transaction():
        put(database, 1, "2 RUNNING 1", "3 RUNNING 1")
    assert database.members.rowless(1, 1, 5) == []
    assert [row.member for row in database.members.unended(1)] == [1, 2, 3, 5]


def test_experiments_are_found_by_owner_project_and_whether_they_have_ended(
    database: Database,
) -> None:
    with database.transaction():
        add(database)
        add(database, user="mary")
        add(database, project="kettle")
        put(database, 2, "1 FINISHED 1")
        database.events.append(
            MemberChange(MemberRow(2, 0, State.FINISHED, reason=Reason.COMPLETED), 9)
        )
        database.experiments.end(2, State.FINISHED, 9, Reason.COMPLETED)
    assert [row.id for row in database.experiments.unfinished()] == [1, 3]
    (ended,) = database.experiments.page(0, 9, ended=True)[1:2]
    assert (ended.id, ended.state, ended.reason) == (2, State.FINISHED, Reason.COMPLETED)
    assert [row.id for row in database.experiments.page(1, 1, ended=False)] == [3]
    assert [row.id for row in database.experiments.page(1, 9, ended=True)] == [2, 3]
    assert database.experiments.newest("paul", None) == 3
    assert database.experiments.newest("paul", "toaster") == 1
    assert database.experiments.newest("mary", "kettle") is None


def test_a_kill_by_force_stays_one(database: Database) -> None:
    with database.transaction():
        add(database)
        database.experiments.mark_killed(1, KillMode.FORCE)
        database.experiments.mark_killed(1, KillMode.GRACEFUL)
    assert experiment(database, 1).kill is KillMode.FORCE


TOLD = [
    "1 STARTING 1",
    "1 RUNNING 1",
    "2 STARTING 1",
    "2 RUNNING 1",
    "1 PENDING 1",
    "1 STARTING 2",
    "1 RUNNING 2",
    "2 FINISHED 1",
    "3 STARTING 1",
    "3 FAILED 1",
    "1 FINISHED 2",
]


@pytest.fixture
def stored(database: Database) -> Database:
    """Experiment 2 with events between those of 1 and 3, a retry, and a start that failed."""
    with database.transaction():
        add(database)
        add(database)
        put(database, 1, "1 STARTING 1")
    with database.transaction():
        add(database)
        database.events.append(MemberChange(MemberRow(3, 0, State.RUNNING), 5))
        put(database, 3, *TOLD)
        database.events.append(
            MemberChange(MemberRow(3, 0, State.FINISHED, reason=Reason.COMPLETED), 6)
        )
        database.experiments.end(3, State.FINISHED, 6, Reason.COMPLETED)
        put(database, 1, "1 RUNNING 1")
    return database


def test_events_come_in_pages_that_miss_none_and_repeat_none(stored: Database) -> None:
    row = experiment(stored, 3)
    everything = stored.events.after(row, 0, 99)
    assert texts(everything) == ["0 RUNNING 0", *TOLD, "0 FINISHED 0"]
    assert [event.experiment for event in everything] == [3] * 13
    for limit in (1, 2, 5, 13):
        after, paged = 0, []
        while page := stored.events.after(row, after, limit):
            assert len(page) <= limit
            paged += page
            after = page[-1].seq
        assert paged == everything
    assert texts(stored.events.after(row, 0, 99, 2)) == [text for text in TOLD if text[0] == "2"]
    assert texts(stored.events.after(experiment(stored, 1), 0, 99)) == [
        "1 STARTING 1",
        "1 RUNNING 1",
    ]
    assert stored.events.after(experiment(stored, 2), 0, 99) == []


def test_attempts_are_told_with_what_ended_them(stored: Database) -> None:
    row = experiment(stored, 3)

    def pairs(member: int | None, after: int = 0, limit: int = 99) -> list[tuple[str, str | None]]:
        found = stored.events.beginnings(row, after, limit, member)
        return [(texts([a])[0], texts([b])[0] if b else None) for a, b in found]

    assert pairs(None) == [
        ("1 RUNNING 1", "1 PENDING 1"),
        ("2 RUNNING 1", "2 FINISHED 1"),
        ("1 RUNNING 2", "1 FINISHED 2"),
    ]
    assert pairs(1) == [("1 RUNNING 1", "1 PENDING 1"), ("1 RUNNING 2", "1 FINISHED 2")]
    assert pairs(None, limit=1) == pairs(None)[:1]
    first = stored.events.beginnings(row, 0, 1)[0][0].seq
    assert pairs(None, after=first) == pairs(None)[1:]
    ((began, ended),) = stored.events.beginnings(experiment(stored, 1), 0, 9)
    assert (texts([began]), ended) == (["1 RUNNING 1"], None)


def test_an_end_leads_to_the_beginning_of_its_attempt_if_it_had_one(stored: Database) -> None:
    row = experiment(stored, 3)
    found = {}
    for event in stored.events.after(row, 0, 99):
        if event.attempt and event.state is not State.STARTING:
            pair = stored.events.attempt_of(event)
            found[texts([event])[0]] = None if pair is None else texts([e for e in pair if e])
    assert found == {
        "1 RUNNING 1": ["1 RUNNING 1", "1 PENDING 1"],
        "1 PENDING 1": ["1 RUNNING 1", "1 PENDING 1"],
        "2 RUNNING 1": ["2 RUNNING 1", "2 FINISHED 1"],
        "2 FINISHED 1": ["2 RUNNING 1", "2 FINISHED 1"],
        "1 RUNNING 2": ["1 RUNNING 2", "1 FINISHED 2"],
        "1 FINISHED 2": ["1 RUNNING 2", "1 FINISHED 2"],
        "3 FAILED 1": None,
    }


def test_the_last_events_are_the_newest_of_each_member(stored: Database) -> None:
    row = experiment(stored, 3)
    assert texts(stored.events.newest_of_members(row, 9)) == [
        "2 FINISHED 1",
        "3 FAILED 1",
        "1 FINISHED 2",
        "0 FINISHED 0",
    ]
    assert texts(stored.events.newest_of_members(row, 2)) == ["1 FINISHED 2", "0 FINISHED 0"]
    last = stored.events.newest(3, 1)
    assert last is not None
    assert texts([last]) == ["1 FINISHED 2"]
    assert stored.events.newest(2, 1) is None
