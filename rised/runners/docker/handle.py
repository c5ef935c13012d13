"""One job as a container: waited for, killed, adopted, with the engine or without it."""

import contextlib
import math
import os
import signal
from collections.abc import Awaitable, Callable

import trio

from rised.linux.process_tree import LocalProcesses
from rised.linux.processes import wait_for_end
from rised.linux.termination import end_tree
from rised.runners.base import Exit, Job
from rised.runners.docker import containers
from rised.runners.docker.engine import Engine
from rised.runners.docker.processes import ContainerProcesses
from rised.runners.identity import ContainerIdentity
from rised.runners.shell import read_exit_file, send_start_signal, when_readable
from riseml_proto.errors import EngineError, NoEngine

START = "start"
"""Name of the FIFO for the start signal in a job's directory."""
OUTPUT = "out"
"""Name of the FIFO for its output."""
UNSEEN = -1
"""The start of a first process that is not on this machine, because the engine runs containers in a virtual one."""
_PATIENCE = 60.0
"""Seconds to wait for an exit code that only the engine has: the engine may be restarting."""
_ASK_AGAIN = 1.0
_SLACK = 2.0
"""Seconds beyond the grace period after which processes that have not ended must be paused."""


class ContainerHandle:
    """A container and all processes in it."""

    def __init__(
        self,
        identity: ContainerIdentity,
        job: Job,
        engine: Engine,
        fifo: int | None,
        drain: Callable[[], Awaitable[None]],
        *,
        rebooted: bool = False,
    ) -> None:
        """`fifo` takes the start signal; None for a container of an earlier daemon.

        `drain` returns when all that it wrote is in its log.
        """
        self._rebooted = rebooted
        self._visible_here = identity.start != UNSEEN and not rebooted
        self.identity = identity
        self._key = job.key
        self._engine = engine
        self._fifo = fifo
        self._drain = drain
        self._begun = False
        start = UNSEEN if rebooted else identity.start
        self.processes = ContainerProcesses(identity.container, identity.pid, start)

    @property
    def is_held(self) -> bool:
        """Whether it is alive, as far as this machine can see, and has had no start signal yet."""
        alive = self.processes.alive or not self._visible_here
        return self._fifo is not None and not self._begun and alive

    @property
    def local(self) -> LocalProcesses | None:
        """The container's processes, unless the engine runs them in another machine."""
        return self.processes if self._visible_here else None

    def begin(self, visible_gpus: str) -> None:
        """Send the start signal. The FIFO stays open: a shell that has not come to it yet needs its other end."""
        assert self._fifo is not None
        visible = self.identity.visible
        self._begun = True
        send_start_signal(self._fifo, visible_gpus if visible is None else visible)

    async def wait(self) -> Exit:
        """Return when its first process has ended, and all others with it."""
        await self._ended()
        ending = await self._read(None)
        if ending.code is None and (ending.begun or self._begun) and not self._rebooted:
            return await self._read(await self._exit_code())
        return ending

    async def _ended(self) -> None:
        if self._visible_here:
            await wait_for_end(self.identity.pid, self.identity.start)
        elif not self._rebooted:
            await self._exit_code(math.inf)

    async def _exit_code(self, patience: float = _PATIENCE) -> int | None:
        """The exit code that the engine has, if it answers within `patience` seconds."""
        with trio.move_on_after(patience):
            while True:
                try:
                    return await containers.wait(self._engine, self.identity.container)
                except NoEngine:
                    await trio.sleep(_ASK_AGAIN)
                except EngineError:
                    return None
        return None

    async def _read(self, status: int | None) -> Exit:
        path = self.identity.exit_file
        return await when_readable(
            lambda: read_exit_file(path, self._key, status, other_boot=self._rebooted)
        )

    async def refuse_unless_begun(self) -> None:
        """End one that never had a start signal. If no engine answers, it ends when it looks for the signal."""
        if (await self._read(None)).begun:
            return
        self._withdraw()
        if not self._visible_here and not self._rebooted:
            with contextlib.suppress(NoEngine, EngineError):
                await containers.kill(self._engine, self.identity.container)

    def _withdraw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(os.path.dirname(self.identity.exit_file), START))
        self.processes.kill_at_once()

    async def kill(self, grace: float, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """The stop signal, `grace` seconds, SIGKILL.

        The engine sends them where the daemon may not signal the processes, or they are paused.
        """
        if not self._begun:
            self.close()
        if self._visible_here and self.processes.may_signal:
            with trio.move_on_after(grace + _SLACK):
                await end_tree(self.processes, grace, stop_signal)
                return
            grace = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kill_by_engine, grace, stop_signal)
            await self._ended()
            nursery.cancel_scope.cancel()

    async def _kill_by_engine(self, grace: float, stop_signal: signal.Signals) -> None:
        if grace:
            with trio.move_on_after(grace), contextlib.suppress(NoEngine, EngineError):
                await containers.terminate(self._engine, self.identity.container, stop_signal)
                await trio.sleep(grace)
        while True:
            with contextlib.suppress(NoEngine, EngineError):
                await containers.kill(self._engine, self.identity.container)
            await trio.sleep(_ASK_AGAIN)

    async def settle(self, grace: float) -> None:
        """Nothing is left, for no process of a container outlives the first one; the log is complete then."""
        await self._drain()

    def close(self) -> None:
        """Close the FIFO. A shell that is still held ends, even if it has not opened the FIFO yet."""
        if self._fifo is None:
            return
        if not self._begun:
            self._withdraw()
        os.close(self._fifo)
        self._fifo = None
