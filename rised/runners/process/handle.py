"""One job as processes: its shell and everything below it."""

import contextlib
import copy
import os
import signal
from collections.abc import Awaitable, Callable
from functools import cached_property

import trio

from rised.linux.children import Child, Children
from rised.linux.process_tree import CgroupTree, LocalProcesses, ProcessTree
from rised.linux.processes import wait_for_end
from rised.linux.termination import end_tree
from rised.runners.base import Exit
from rised.runners.identity import ProcessIdentity
from rised.runners.shell import read_exit_file, send_start_signal, when_readable

OTHER_BOOT = -1
"""The start of a shell that ran before the machine was booted: no process has it."""
# A control group may count a process for a moment after the kernel has said that it ended.
_CGROUP_DELAY = 0.002


class ProcessHandle:
    """A job's shell and everything below it."""

    def __init__(
        self,
        key: str,
        identify: Callable[[], ProcessIdentity],
        find_tree: Callable[[ProcessIdentity], ProcessTree],
        children: Children,
        drain: Callable[[], Awaitable[None]],
        child: Child | None = None,
        stdin: int | None = None,
    ) -> None:
        """`key` is the job's; `drain` returns when all that it wrote is in its log.

        `child` and the write end of its `stdin` are None for one of an earlier daemon.
        """
        self._key = key
        self._identify = identify
        self._find_tree = find_tree
        self._children = children
        self._drain = drain
        self._child = child
        self._stdin = stdin

    @cached_property
    def identity(self) -> ProcessIdentity:
        """Found out as late as possible: see `Child.start`."""
        return self._identify()

    @cached_property
    def _tree(self) -> ProcessTree:
        return self._find_tree(self.identity)

    @property
    def is_held(self) -> bool:
        """Whether the shell is alive and has had no start signal yet."""
        return self._stdin is not None and self._child is not None and self._child.code is None

    @property
    def local(self) -> LocalProcesses:
        """Its process tree, for any thread."""
        # A copy, because a snapshot of another thread's must not make the tree forget what it has seen since.
        return copy.copy(self._tree)

    def begin(self, visible_gpus: str) -> None:
        """Send the start signal and close the pipe."""
        assert self._stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed meanwhile; `wait` returns that
            send_start_signal(self._stdin, visible_gpus)
        self.close()

    async def wait(self) -> Exit:
        """Return when the shell has ended."""
        status = None
        if self._child:
            status = await self._child.wait()
        else:
            await wait_for_end(self.identity.pid, self.identity.start)
        other_boot = self.identity.start == OTHER_BOOT
        return await when_readable(
            lambda: read_exit_file(
                self.identity.exit_file, self._key, status, other_boot=other_boot
            )
        )

    async def kill(self, grace: float, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """The stop signal, `grace` seconds, SIGKILL."""
        self.close()
        await end_tree(self._tree, grace, stop_signal)

    async def settle(self, grace: float) -> None:
        """End what the shell left behind, and remove its control group; the log is complete then."""
        if isinstance(self._tree, CgroupTree):
            while not self._tree.remove():
                await end_tree(self._tree, grace)
                await trio.sleep(_CGROUP_DELAY)
        elif self._child is None or self._children.strays():
            await end_tree(self._tree, grace)
        await self._drain()

    def close(self) -> None:
        """Close the pipe; a shell that is still held ends."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
