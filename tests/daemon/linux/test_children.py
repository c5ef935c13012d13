"""Child processes: started in a session of their own, and all reaped, also those that others left."""

import ctypes
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from rised.linux.children import Child, Children
from rised.linux.processes import ended, pidfd, stat

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def no_subreaper_afterwards() -> Iterator[None]:
    yield
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def run(test: Callable[[Children], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                children = Children()
                await nursery.start(children.run)
                await test(children)
                nursery.cancel_scope.cancel()

    trio.run(main)


def sh(children: Children, command: str, output: Path | None = None) -> Child:
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return children.spawn(
            ["/bin/sh", "-c", command], {"PATH": os.environ["PATH"]}, stdin=null, output=out
        )
    finally:
        os.close(null)
        os.close(out)


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)],
)
def test_its_exit_code_is_told_and_a_signal_is_128_and_its_number(command: str, code: int) -> None:
    async def test(children: Children) -> None:
        assert await sh(children, command).wait() == code

    run(test)


def test_each_has_a_session_its_files_and_the_default_signals(tmp_path: Path) -> None:
    output = tmp_path / "out"

    async def test(children: Children) -> None:
        child = sh(children, "grep -E '^Sig(Ign|Blk)' /proc/self/status; echo err >&2", output)
        found = stat(child.pid)
        assert found is not None
        assert found.session == child.pid
        await child.wait()

    run(test)
    ignored, blocked, err = output.read_text().splitlines()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT):
        assert not int(blocked.split()[1], 16) >> number - 1 & 1
        assert not int(ignored.split()[1], 16) >> number - 1 & 1
    assert err == "err"


def test_no_descriptor_of_the_daemons_leaks_into_one(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with (tmp_path / "secret").open("w"):

        async def test(children: Children) -> None:
            await sh(children, "ls -l /proc/$$/fd", output).wait()

        run(test)
    assert "secret" not in output.read_text()


def test_many_that_end_at_once_are_each_told() -> None:
    async def test(children: Children) -> None:
        some = [sh(children, f"exit {n}") for n in range(40)]
        assert [await child.wait() for child in some] == list(range(40))
        assert children.strays() == []

    run(test)


def test_what_a_child_leaves_behind_is_a_stray_until_it_ends_and_then_is_reaped(
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"

    async def test(children: Children) -> None:
        assert await sh(children, "setsid sleep 1000 & echo $!", output).wait() == 0
        (pid,) = map(int, output.read_text().split())
        assert children.strays() == [pid]
        with pidfd(pid) as fd:
            assert fd is not None
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            await ended(fd)
        other = sh(children, "exit 0")  # its end is told after the stray's was
        await other.wait()
        assert children.strays() == []
        assert stat(pid) is None

    run(test)


def test_one_that_waits_for_nobody_does_not_hold_up_the_others() -> None:
    async def test(children: Children) -> None:
        slow = sh(children, "sleep 1000")
        assert await sh(children, "exit 7").wait() == 7
        assert slow.code is None
        os.kill(slow.pid, signal.SIGKILL)
        assert await slow.wait() == 137

    run(test)


def test_a_program_that_is_not_there_is_an_error_at_once() -> None:
    async def test(children: Children) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        try:
            with pytest.raises(FileNotFoundError):
                children.spawn(["/nowhere"], {}, stdin=null, output=null)
        finally:
            os.close(null)
        assert await sh(children, "exit 1").wait() == 1

    run(test)


def test_the_start_of_a_child_is_known_while_it_lives_and_afterwards_is_nobodys() -> None:
    async def test(children: Children) -> None:
        slow, quick = sh(children, "sleep 1000"), sh(children, "exit 0")
        await quick.wait()
        assert quick.start == 0
        process = stat(slow.pid)
        assert process is not None
        assert slow.start == process.start
        os.kill(slow.pid, signal.SIGKILL)
        await slow.wait()
        assert slow.start == process.start

    run(test)
