"""What a job writes reaches its log, whatever ends meanwhile: the daemon, the writer, the room on the disk."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from rised.linux.children import Children
from rised.linux.processes import pidfd
from rised.runners.output import writer
from rised.runners.output.pipes import OutputPipes
from rised.users.owner import own


class Place:
    """A state directory, and the pipes of the daemons that use it one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"

    def live(self, test: Callable[[OutputPipes], Awaitable[None]], *held: str) -> None:
        """One life of a daemon, which ends as by SIGKILL: nothing is told to anybody. It keeps the FIFOs `held`."""

        async def main() -> None:
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    children = Children()
                    await nursery.start(children.run)
                    pipes = OutputPipes(str(self.root), children)
                    for name in held:
                        pipes.hold(str(self.root / name))
                    await nursery.start(pipes.run)
                    await test(pipes)
                    nursery.cancel_scope.cancel()

        trio.run(main)

    def make(self, pipes: OutputPipes, key: str = "1.train.1") -> int:
        return pipes.make(key, str(self.root / f"{key}.out"), str(self.log), own())

    def adopt(self, pipes: OutputPipes, key: str = "1.train.1") -> None:
        pipes.adopt(key, str(self.root / f"{key}.out"), str(self.log), own())

    async def writer(self) -> int:
        """The pid of the writer, once there is one."""
        file = self.root / "log-writer"
        await until(file.read_text)
        return int(file.read_text().split()[0])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def job(command: str, output: int) -> subprocess.Popen[bytes]:
    """A job whose output goes to a descriptor, which is closed here."""
    started = subprocess.Popen(
        ["bash", "-c", command], stdout=output, stderr=output, stdin=subprocess.DEVNULL
    )
    os.close(output)
    return started


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await trio.to_thread.run_sync(process.wait)


async def until(done: Callable[[], object]) -> None:
    """Return when `done` is true of files, of which nobody tells."""

    def look() -> None:
        while not done():
            time.sleep(0.001)

    await trio.to_thread.run_sync(look)


@pytest.mark.parametrize(
    "command",
    [
        "echo a; echo b >/dev/stderr; echo c",
        "echo a; echo b | tee /dev/stderr >/dev/null; echo c",
        'echo a; python3 -c \'open("/dev/stdout", "w").write("b\\n")\'; echo c',
        'echo a; python3 -c \'open("/proc/self/fd/2", "r+b", 0).write(b"b\\n")\'; echo c',
    ],
)
def test_a_job_cannot_destroy_its_own_log(place: Place, command: str) -> None:
    async def test(pipes: OutputPipes) -> None:
        await ended(job(command, place.make(pipes)))
        await pipes.drain("1.train.1")
        assert place.log.read_text() == "a\nb\nc\n"
        assert not (place.root / "1.train.1.out").exists()

    place.live(test)


def test_output_goes_on_while_no_daemon_runs_and_the_next_one_takes_it_over(place: Place) -> None:
    """Much more than a pipe holds: somebody reads it."""
    gate = place.root / "gate"
    os.mkfifo(gate)
    running: list[subprocess.Popen[bytes]] = []

    async def first(pipes: OutputPipes) -> None:
        running.append(job(f"echo a; read x <{gate}; seq 300000; echo end", place.make(pipes)))
        await until(lambda: place.log.read_text() == "a\n")

    place.live(first)
    gate.write_text("go\n")
    assert running[0].wait(30) == 0

    async def second(pipes: OutputPipes) -> None:
        place.adopt(pipes)
        await pipes.drain("1.train.1")

    place.live(second)
    numbers = "".join(f"{n}\n" for n in range(1, 300_001))
    assert place.log.read_text() == f"a\n{numbers}end\n"


def test_what_a_job_writes_before_it_is_adopted_is_kept_though_nobody_writes_the_log(
    place: Place,
) -> None:
    """Its last words come between the end of one writer and the beginning of the next."""
    gate = place.root / "gate"
    os.mkfifo(gate)
    running: list[subprocess.Popen[bytes]] = []

    async def first(pipes: OutputPipes) -> None:
        running.append(job(f"echo a; read x <{gate}; echo last", place.make(pipes)))
        await until(lambda: place.log.read_text() == "a\n")

    place.live(first)

    async def second(pipes: OutputPipes) -> None:
        await trio.to_thread.run_sync(gate.write_text, "go\n")
        assert await ended(running[0]) == 0
        place.adopt(pipes)
        await pipes.drain("1.train.1")

    place.live(second, "1.train.1.out")
    assert place.log.read_text() == "a\nlast\n"


def test_a_writer_that_is_killed_again_and_again_loses_no_byte(place: Place) -> None:
    async def test(pipes: OutputPipes) -> None:
        process = job("for i in $(seq 40); do seq 5000; done", place.make(pipes))
        killed: set[int] = set()
        while process.poll() is None and len(killed) < 3:
            pid = await place.writer()
            if pid not in killed and place.log.stat().st_size > 1000:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            await trio.sleep(0.002)
        assert await ended(process) == 0
        await pipes.drain("1.train.1")

    place.live(test)
    assert place.log.read_text() == "".join(f"{n}\n" for n in range(1, 5001)) * 40


def test_a_writer_that_is_asked_to_end_does_so_and_another_goes_on(place: Place) -> None:
    """As systemd asks, which stops the jobs' scope: the daemon is still there."""

    async def test(pipes: OutputPipes) -> None:
        gate = place.root / "gate"
        os.mkfifo(gate)
        process = job(f"echo a; read x <{gate}; echo last", place.make(pipes))
        await until(lambda: place.log.read_text() == "a\n")
        with pidfd(await place.writer()) as fd:
            assert fd is not None
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            await trio.lowlevel.wait_readable(fd)
        await trio.to_thread.run_sync(gate.write_text, "go\n")
        assert await ended(process) == 0
        await pipes.drain("1.train.1")

    place.live(test)
    assert place.log.read_text() == "a\nlast\n"


def test_what_a_job_wrote_last_is_kept_where_the_writer_died_before_it(place: Place) -> None:
    async def test(pipes: OutputPipes) -> None:
        gate = place.root / "gate"
        os.mkfifo(gate)
        process = job(f"echo a; read x <{gate}; echo last", place.make(pipes))
        await until(lambda: place.log.read_text() == "a\n")
        os.kill(await place.writer(), signal.SIGKILL)
        await trio.to_thread.run_sync(gate.write_text, "go\n")
        assert await ended(process) == 0
        await pipes.drain("1.train.1")

    place.live(test)
    assert place.log.read_text() == "a\nlast\n"


def test_a_writer_without_jobs_ends_with_its_daemon(place: Place) -> None:
    pids = []

    async def test(pipes: OutputPipes) -> None:
        await ended(job("echo a", place.make(pipes)))
        await pipes.drain("1.train.1")
        pids.append(await place.writer())

    place.live(test)

    async def gone() -> None:
        with trio.fail_after(20), pidfd(pids[0]) as fd:
            if fd is not None:
                await trio.lowlevel.wait_readable(fd)

    trio.run(gone)


def test_a_log_that_its_user_empties_grows_from_its_beginning(place: Place) -> None:
    async def test(pipes: OutputPipes) -> None:
        gate = place.root / "gate"
        os.mkfifo(gate)
        process = job(f"echo before; read x <{gate}; echo after", place.make(pipes))
        await until(lambda: place.log.read_text() == "before\n")
        os.truncate(place.log, 0)
        await trio.to_thread.run_sync(gate.write_text, "go\n")
        await ended(process)
        await pipes.drain("1.train.1")

    place.live(test)
    assert place.log.read_text() == "after\n"


def test_a_job_that_never_pauses_holds_up_no_other(place: Place) -> None:
    async def test(pipes: OutputPipes) -> None:
        loud = job("yes", pipes.make("2.train.1", str(place.root / "2.out"), "/dev/null", own()))
        await ended(job("echo a", place.make(pipes)))
        await pipes.drain("1.train.1")
        loud.kill()
        await ended(loud)
        await pipes.drain("2.train.1")

    place.live(test)
    assert place.log.read_text() == "a\n"


def test_what_lies_in_a_fifos_place_does_not_keep_the_next_job_from_starting(place: Place) -> None:
    (place.root / "1.train.1.out" / "deep").mkdir(parents=True)

    async def test(pipes: OutputPipes) -> None:
        await ended(job("echo a", place.make(pipes)))
        (place.root / "1.train.1.out").unlink()
        (place.root / "1.train.1.out" / "again").mkdir(parents=True)
        await pipes.drain("1.train.1")

    place.live(test)
    assert place.log.read_text() == "a\n"
    assert not (place.root / "1.train.1.out").exists()


def test_a_second_start_of_the_same_job_takes_the_place_of_the_first(place: Place) -> None:
    async def test(pipes: OutputPipes) -> None:
        os.close(place.make(pipes))
        await ended(job("echo a", place.make(pipes)))
        await pipes.drain("1.train.1")

    before = len(os.listdir("/proc/self/fd"))
    place.live(test)
    assert place.log.read_text() == "a\n"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_log_that_cannot_be_spliced_to_is_written_all_the_same(tmp_path: Path) -> None:
    """A file that is open for appending refuses splice, as some file systems do."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    output = writer._Output(b"k", read_end, log)
    os.write(write_end, b"x" * 50_000)
    assert output.move() == 50_000
    with pytest.raises(BlockingIOError):
        output.move()
    os.write(write_end, b"y")
    os.close(write_end)
    assert (output.move(), output.move()) == (1, 0)
    output.close()
    assert (tmp_path / "log").read_bytes() == b"x" * 50_000 + b"y"


@pytest.mark.parametrize("append", [0, os.O_APPEND], ids=["spliced", "copied"])
def test_what_finds_no_room_stays_in_the_pipe(tmp_path: Path, append: int) -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | append)
    output = writer._Output(b"k", read_end, log)
    os.write(write_end, b"x" * 3000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert output.move() == 1000
        with pytest.raises(OSError, match="File too large"):
            output.move()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert output.move() == 2000
    os.close(write_end)
    output.close()
    assert (tmp_path / "log").read_bytes() == b"x" * 3000


def test_the_writer_needs_the_standard_library_alone() -> None:
    """It runs from the path of its file, whatever becomes of the environment that it lies in."""
    code = f"import runpy, sys; runpy.run_path({writer.__file__!r}, run_name='x')"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
