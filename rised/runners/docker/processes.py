"""The processes of one container as the machine sees them: its ID is in the name of their control group."""

import contextlib
import os
import signal
from pathlib import Path

from rised.linux.processes import ProcessSnapshot, pidfd, send, stat
from rised.linux.usage import own_group


class ContainerProcesses:
    """A `Tree` (`rised.linux.process_tree`) of a container whose first process is `pid`, started at `start`."""

    def __init__(self, container: str, pid: int, start: int) -> None:
        """`container` is its ID, 64 hex digits."""
        self._container = container.encode()
        self._pid = pid
        self._start = start

    @property
    def there(self) -> bool:
        """Whether its first process lives, without which no other can."""
        found = stat(self._pid) if self._pid else None
        return found is not None and found.start == self._start and not found.gone

    @property
    def is_ours(self) -> bool:
        """Whether the daemon may signal it."""
        try:
            return os.getuid() in (0, os.stat(f"/proc/{self._pid}").st_uid)
        except OSError:
            return True

    def pids(self, snapshot: ProcessSnapshot | None = None) -> list[int]:
        """Those alive now, or at the moment of `look`."""
        if not self.there:
            return []
        snapshot = snapshot or ProcessSnapshot()
        return [
            pid
            for pid, found in snapshot.stats.items()
            if not found.gone and self._container in snapshot.group(pid)
        ]

    @property
    def group(self) -> str | None:
        """Its control group (`JobHandle.group`)."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self._pid}/cgroup").read_text()
            if self.there:
                return own_group(
                    text, Path("/proc/self/mounts").read_text(), self._container.decode()
                )
        return None

    def strike(self) -> None:
        """SIGKILL to its first process, which takes all others with it."""
        if not self.there:
            return
        with pidfd(self._pid) as fd:
            if fd is not None and self.there:
                send(fd, signal.SIGKILL)
