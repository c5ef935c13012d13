"""Facts about a process, waiting for its end and signalling it, without ever meeting a recycled pid."""

import contextlib
import functools
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import trio

from rised.linux.files import read_small


class Stat(NamedTuple):
    """Facts from /proc/PID/stat."""

    state: str
    parent: int
    session: int
    start: int
    """Clock ticks from boot to its start; with the pid and the boot it identifies a process for ever."""
    threads: int

    @property
    def gone(self) -> bool:
        """Whether all of its threads have ended, even if nobody has reaped it yet."""
        return self.state in "ZX" and self.threads <= 1


def stat(pid: int) -> Stat | None:
    """The facts about `pid` now; None if there is no such process."""
    try:
        fields = read_small(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(
        fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]), int(fields[17])
    )


class ProcessSnapshot:
    """The machine's processes at one moment. Further facts about one are read when they are first needed."""

    def __init__(self) -> None:
        stats = {int(name): stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        self.stats = {pid: process for pid, process in stats.items() if process}
        own = os.getpid()
        self.has_gaps = any(
            process is None or (process.gone and process.parent == own)
            for process in stats.values()
        )
        """Whether some ended meanwhile. Then processes that these started meanwhile may be missing."""
        self.environ: Callable[[int], frozenset[bytes]] = functools.cache(_environ)
        """Each `NAME=value` that a pid was started with; empty for another user's, and for one that is gone."""
        self.cgroup: Callable[[int], bytes] = functools.cache(_cgroup)
        """The text of /proc/PID/cgroup; empty for one that is gone."""
        self.link: Callable[[int, str], str] = functools.cache(_link)
        """The target of the link /proc/PID/NAME; empty as `environ`."""


def _environ(pid: int) -> frozenset[bytes]:
    with contextlib.suppress(OSError):
        return frozenset(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    return frozenset()


def _cgroup(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cgroup").read_bytes()
    return b""


def _link(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/{name}")
    return ""


def boot_id() -> str:
    """The kernel's ID of the time since it booted: another one after each restart of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@contextlib.contextmanager
def pidfd(pid: int, start: int | None = None) -> Iterator[int | None]:
    """A descriptor of the process that has the pid now, whoever has it later; None if no process has it.

    With `start` (`Stat.start`) also None if the pid belongs to another process than the one that started then.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # Only now: what the pid stands for after the descriptor was opened, the descriptor stands for.
        same = start is None or ((now := stat(pid)) is not None and now.start == start)
        yield fd if same else None
    finally:
        os.close(fd)


def stop(pid: int) -> None:
    """Send SIGTERM to `pid` and return when it has ended. Blocks: for use before trio runs."""
    with pidfd(pid) as fd:
        if fd is not None:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            select.select([fd], [], [])


async def ended(fd: int) -> None:
    """Return when the process behind a pidfd has ended."""
    await trio.lowlevel.wait_readable(fd)


async def wait_for_end(pid: int, start: int) -> None:
    """Return when the process `pid` that started at `start` has ended. It need not be the daemon's child."""
    with pidfd(pid, start) as fd:
        if fd is not None:
            await ended(fd)


def send_signal(fd: int, number: signal.Signals) -> None:
    """Signal the process behind a pidfd; does nothing if it has ended or may not be signalled."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(fd, number)
