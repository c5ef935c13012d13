"""The processes of one container on this machine: the path of their control group has the container's ID in it."""

import contextlib
import os
import signal
from pathlib import Path

from rised.linux.cgroups import counting_cgroup, read_mounts
from rised.linux.processes import ProcessSnapshot, pidfd, send_signal, stat


class ContainerProcesses:
    """The process tree of a container. Its first process is `pid`, which started at `start`."""

    def __init__(self, container: str, pid: int, start: int) -> None:
        """`container` is the container's ID, 64 hex digits."""
        self._container = container.encode()
        self._pid = pid
        self._start = start

    @property
    def alive(self) -> bool:
        """Whether its first process lives. No other process of the container can outlive that."""
        first = stat(self._pid) if self._pid else None
        return first is not None and first.start == self._start and not first.gone

    @property
    def may_signal(self) -> bool:
        """Whether the daemon may signal it."""
        try:
            return os.getuid() in (0, os.stat(f"/proc/{self._pid}").st_uid)
        except OSError:
            return True

    @property
    def roots(self) -> tuple[int, ...]:
        """The engine's init, and the shell that runs the commands."""
        snapshot = ProcessSnapshot()
        below = (pid for pid in self.pids(snapshot) if snapshot.stats[pid].parent == self._pid)
        # Whatever has lost its parent is the init's child, too; the shell is its first one.
        shell = min(below, key=lambda pid: snapshot.stats[pid].start, default=None)
        return (self._pid,) if shell is None else (self._pid, shell)

    def pids(self, snapshot: ProcessSnapshot | None = None) -> list[int]:
        """Those alive now, or at the moment of the snapshot."""
        if not self.alive:
            return []
        snapshot = snapshot or ProcessSnapshot()
        return [
            pid
            for pid, process in snapshot.stats.items()
            if not process.gone and self._container in snapshot.cgroup(pid)
        ]

    @property
    def cgroup(self) -> str | None:
        """The directory of its control group, which has the container's ID in its path; None once it has ended."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self._pid}/cgroup").read_text()
            if self.alive:
                return counting_cgroup(text, read_mounts(), self._container.decode())
        return None

    def kill_at_once(self) -> None:
        """Send SIGKILL to the first process. The kernel then kills all others."""
        if self.alive:
            with pidfd(self._pid, self._start) as fd:
                if fd is not None:
                    send_signal(fd, signal.SIGKILL)
