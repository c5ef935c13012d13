"""The daemon's child processes: started here, and reaped here.

The daemon is a child subreaper: a process that a job leaves behind becomes its child, too, and can be found. So one
task reaps them all. On SIGCHLD it waits for every dead child, and wakes whoever waits for one that was started here.
Nothing else in the daemon may start processes.

A child's pid cannot be taken by another process before it is reaped, so a signal to a child is always safe.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import trio

from rised.linux.processes import ProcessSnapshot, stat

_PR_SET_CHILD_SUBREAPER = 36
_ORDINARY_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Child:
    """A process started here."""

    def __init__(self, pid: int) -> None:
        """`pid` is also the number of its session and process group."""
        self.pid = pid
        self.code: int | None = None
        self._ended = trio.Event()

    @cached_property
    def start(self) -> int:
        """`Stat.start`; 0, which no process has, if it was reaped before. The first read waits for the child's exec."""
        process = stat(self.pid) if self.code is None else None
        return process.start if process else 0

    def end(self, status: int) -> None:
        """Take the status from `waitpid`, and wake those that wait."""
        code = os.waitstatus_to_exitcode(status)
        self.code = 128 - code if code < 0 else code
        self._ended.set()

    async def wait(self) -> int:
        """Return its exit code when it has ended; 128 + n for signal n."""
        await self._ended.wait()
        assert self.code is not None
        return self.code


class Children:
    """The daemon's child processes. `run` must run while there are any."""

    def __init__(self) -> None:
        self._known: dict[int, Child] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reap until cancelled."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            task_status.started()
            self._reap()
            async for _ in signals:
                self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(-1, os.WNOHANG)
            while pid:
                if child := self._known.pop(pid, None):
                    child.end(status)
                pid, status = os.waitpid(-1, os.WNOHANG)

    def spawn(
        self,
        argv: list[str],
        env: Mapping[str, str],
        *,
        stdin: int,
        output: int,
        blocked: Iterable[signal.Signals] = (),
    ) -> Child:
        """Start `argv` in a session of its own with these files as its input and both outputs. Raises `OSError`.

        The signals `blocked` wait until the program lets them come.
        """
        pid = os.posix_spawn(
            argv[0],
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=blocked,
            # Python ignores some, whoever started the daemon may others, and what is ignored would stay so in the job.
            setsigdef=_ORDINARY_SIGNALS,
        )
        self._known[pid] = Child(pid)
        return self._known[pid]

    def strays(self) -> list[int]:
        """Pids of children that were not started here: jobs left them behind. Dead ones may be among them."""
        own = os.getpid()
        try:
            pids = [int(pid) for pid in Path(f"/proc/self/task/{own}/children").read_text().split()]
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            stats = ProcessSnapshot().stats
            pids = [pid for pid, process in stats.items() if process.parent == own]
        return [pid for pid in pids if pid not in self._known]


if sys.platform != "linux":
    raise ImportError("rised runs on Linux alone")
