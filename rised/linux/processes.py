"""What the kernel says of a process, and waiting for and signalling one without ever meeting a recycled pid."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from typing import NamedTuple

import trio


class Stat(NamedTuple):
    """A process as /proc/PID/stat has it."""

    state: str
    parent: int
    session: int
    start: int
    """Clock ticks from boot to its start; with the pid and the boot it identifies a process for ever."""
    threads: int

    @property
    def gone(self) -> bool:
        """Whether it is dead, even if nobody has reaped it yet. Its first thread alone may end before the others."""
        return self.state in "ZX" and self.threads <= 1


def stat(pid: int) -> Stat | None:
    """Look at `pid`; None if there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(fd, 4096).rpartition(b")")[2].split()
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(
        fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]), int(fields[17])
    )


class ProcessSnapshot:
    """The machine's processes at one moment. What else is asked about one is read once, then."""

    def __init__(self) -> None:
        self.stats = {
            int(name): found
            for name in os.listdir("/proc")
            if name.isdigit() and (found := stat(int(name)))
        }
        self._environs: dict[int, frozenset[bytes]] = {}
        self._cgroups: dict[int, bytes] = {}
        self._links: dict[tuple[int, str], str] = {}

    def environ(self, pid: int) -> frozenset[bytes]:
        """Each `NAME=value` that it was started with; none of another user's, and of one that is gone."""
        if pid not in self._environs:
            self._environs[pid] = frozenset(_read(pid, "environ").split(b"\0"))
        return self._environs[pid]

    def cgroup(self, pid: int) -> bytes:
        """Its control groups, as /proc/PID/cgroup has them; empty for one that is gone."""
        if pid not in self._cgroups:
            self._cgroups[pid] = _read(pid, "cgroup")
        return self._cgroups[pid]

    def link(self, pid: int, name: str) -> str:
        """Where /proc/PID/`name` leads; empty as `environ`."""
        if (pid, name) not in self._links:
            try:
                found = os.readlink(f"/proc/{pid}/{name}")
            except OSError:
                found = ""
            self._links[pid, name] = found
        return self._links[pid, name]


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # another user's, or gone
        return b""


def boot_id() -> str:
    """The kernel's name for the time since it booted."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


@contextlib.contextmanager
def pidfd(pid: int, start: int | None = None) -> Iterator[int | None]:
    """A descriptor that stands for the process `pid` is now, whatever the pid is used for later; None if it is gone.

    With `start` (`Stat.start`) it is also None if the pid belongs to another process than the one that started then.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # Looked at only now: from here on the descriptor and the number mean the same process.
        same = start is None or ((now := stat(pid)) is not None and now.start == start)
        yield fd if same else None
    finally:
        os.close(fd)


def stop(pid: int) -> None:
    """Send SIGTERM to `pid` and return when it has ended. Blocks: for a daemon that does not run yet."""
    with pidfd(pid) as fd:
        if fd is not None:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            select.select([fd], [], [])


async def ended(fd: int) -> None:
    """Return when the process behind a pidfd has ended."""
    await trio.lowlevel.wait_readable(fd)


async def wait_for_end(pid: int, start: int) -> None:
    """Return when the process `pid` that started at `start` has ended; no child of the daemon has to be one."""
    with pidfd(pid, start) as fd:
        if fd is not None:
            await ended(fd)


def send_signal(fd: int, number: signal.Signals) -> None:
    """Signal the process behind a pidfd; one that has ended is no error, one that may not be signalled neither."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(fd, number)
