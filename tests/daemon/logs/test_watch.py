"""The watcher: growth is stamped and told at once, whatever happens to the log."""

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from rised.logs import stamps
from rised.logs.stamps import SUFFIX, Stamp
from rised.logs.watch import LogWatcher


def run(test: Callable[[LogWatcher], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                watcher = LogWatcher()
                await nursery.start(watcher.run)
                await test(watcher)
                nursery.cancel_scope.cancel()

    trio.run(main)


def index(log: Path) -> list[Stamp]:
    path = Path(f"{log}{SUFFIX}")
    return stamps.decode(path.read_bytes()) if path.exists() else []


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


class Told:
    """Counts what a watcher tells, and lets a test wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self._more = trio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._more.set()

    async def wait(self) -> None:
        await self._more.wait()
        self._more = trio.Event()


def test_growth_is_stamped_before_it_is_told(tmp_path: Path) -> None:
    log = tmp_path / "a 'log'\n"
    log.touch()

    async def test(watcher: LogWatcher) -> None:
        told = Told()
        watch = watcher.add(str(log), told)
        for size in (3, 6, 9):
            before = time.time_ns() // 1_000_000
            append(log, b"abc")
            await told.wait()
            stamp = index(log)[-1]
            assert stamp.end == watch.size == size
            assert before <= stamp.time_ms <= time.time_ns() // 1_000_000
        watch.close()
        assert len(index(log)) == told.count == 3

    run(test)


def test_what_a_job_wrote_before_it_was_watched_is_told_too(tmp_path: Path) -> None:
    """A follower may wait already: the job began before that."""
    log = tmp_path / "log"
    append(log, b"abc")

    async def test(watcher: LogWatcher) -> None:
        first, second = Told(), Told()
        watcher.add(str(log), first).close()
        assert first.count == 1
        watcher.add(str(log), second).close()
        assert second.count == 0, "all of it was told"

    run(test)


def test_a_log_without_output_has_no_index(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def test(watcher: LogWatcher) -> None:
        watcher.add(str(log), Told()).close()
        await trio.lowlevel.checkpoint()

    run(test)
    assert os.listdir(tmp_path) == ["log"]


def test_what_was_written_last_is_stamped_when_the_watch_is_closed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def test(watcher: LogWatcher) -> None:
        watch = watcher.add(str(log), Told())
        append(log, b"last words")
        watch.close()
        assert [stamp.end for stamp in index(log)] == [10]
        await trio.lowlevel.checkpoint()

    run(test)


def test_what_was_written_while_nobody_watched_has_the_files_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, b"0123456789")
    stamps.append(str(log), Stamp(4, 1000))
    os.utime(log, ns=(0, 7_000_000_000))

    async def test(watcher: LogWatcher) -> None:
        watch = watcher.add(str(log), Told())
        assert watch.size == 10
        assert index(log) == [Stamp(4, 1000), Stamp(10, 7000)]
        await trio.lowlevel.checkpoint()

    run(test)


def test_times_never_go_back_though_the_clock_does(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, b"0123456789")
    later = time.time_ns() // 1_000_000 + 3_600_000
    stamps.append(str(log), Stamp(10, later))

    async def test(watcher: LogWatcher) -> None:
        watch = watcher.add(str(log), Told())
        append(log, b"x")
        watch.close()
        assert index(log) == [Stamp(10, later), Stamp(11, later)]
        await trio.lowlevel.checkpoint()

    run(test)


def test_a_log_that_its_job_cuts_short_starts_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def test(watcher: LogWatcher) -> None:
        told = Told()
        watch = watcher.add(str(log), told)
        append(log, b"0123456789")
        await told.wait()
        os.truncate(log, 0)
        await told.wait()
        append(log, b"new")
        await told.wait()
        assert watch.size == 3
        assert [stamp.end for stamp in index(log)] == [3]

    run(test)


def test_a_log_that_is_deleted_stops_nothing(tmp_path: Path) -> None:
    gone, log = tmp_path / "gone", tmp_path / "log"
    gone.touch()
    log.touch()

    async def test(watcher: LogWatcher) -> None:
        told = Told()
        lost = watcher.add(str(gone), told)
        watcher.add(str(log), told)
        with gone.open("ab") as file:
            gone.unlink()
            file.write(b"unseen")
        append(log, b"seen")
        await told.wait()
        lost.close()
        assert [stamp.end for stamp in index(log)] == [4]
        assert index(gone) == []

    run(test)


def test_an_index_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    Path(f"{log}{SUFFIX}").mkdir()

    async def test(watcher: LogWatcher) -> None:
        told = Told()
        watch = watcher.add(str(log), told)
        append(log, b"output")
        await told.wait()
        assert watch.size == 6

    run(test)


def test_a_thousand_logs_are_watched_at_once(tmp_path: Path) -> None:
    logs = [tmp_path / str(i) for i in range(1000)]
    for log in logs:
        log.touch()

    async def test(watcher: LogWatcher) -> None:
        told = Told()
        watches = [watcher.add(str(log), told) for log in logs]
        for log in logs:
            append(log, b"x")
        while told.count < len(logs):
            await told.wait()
        assert all(watch.size == 1 for watch in watches)
        for watch in watches:
            watch.close()

    run(test)


def test_a_job_that_writes_without_a_pause_is_looked_at_a_bounded_number_of_times(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    log.touch()

    async def test(watcher: LogWatcher) -> None:
        told = Told()
        watch = watcher.add(str(log), told)
        began = time.monotonic()
        with log.open("ab") as out:
            command = ["/bin/sh", "-c", "i=0; while [ $i -lt 40000 ]; do echo $i; i=$((i+1)); done"]
            await trio.run_process(command, stdout=out)
        watch.close()
        assert told.count <= 200 * (time.monotonic() - began) + 2
        assert index(log)[-1].end == log.stat().st_size

    run(test)


def test_a_log_for_which_the_kernel_has_no_watch_is_followed_too(tmp_path: Path) -> None:
    log = tmp_path / "log"  # not there yet, so the kernel refuses

    async def test(watcher: LogWatcher) -> None:
        told = Told()
        watch = watcher.add(str(log), told)
        await trio.run_process(["/bin/sh", "-c", 'echo hello > "$1"', "sh", log])
        await told.wait()
        assert watch.size == 6
        watch.close()

    run(test)
