"""One container and all processes in it: waited for, killed, found again."""

import contextlib
import math
import os

import trio

from rised.linux.process_tree import LocalProcesses, end_tree
from rised.linux.processes import wait_for_end
from rised.runners.base import Exit, Job
from rised.runners.docker import containers
from rised.runners.docker.engine import Engine
from rised.runners.docker.processes import ContainerProcesses
from rised.runners.identity import ContainerIdentity
from rised.runners.shell import read_exit_file, send_start_signal
from riseml_proto.errors import EngineError, NoEngine

START = "start"
"""Name of the FIFO in a job's directory."""
UNSEEN = -1
"""The start of a first process that an engine runs out of this machine's sight."""
_PATIENCE = 60.0
"""Seconds that an exit code which only the engine knows is waited for: it may be starting again."""
_ASK_AGAIN = 1.0
_SLACK = 2.0
"""Seconds more than the grace after which processes that do not go are thought to be paused."""


class ContainerHandle:
    """A container and all processes in it."""

    def __init__(
        self,
        identity: ContainerIdentity,
        job: Job,
        engine: Engine,
        fifo: int | None,
        *,
        rebooted: bool = False,
    ) -> None:
        """`fifo` is where the start signal goes, open; None for a container that an earlier daemon started."""
        self._rebooted = rebooted
        self._visible_here = identity.start != UNSEEN and not rebooted
        self.identity = identity
        self._key = job.key
        self._engine = engine
        self._fifo = fifo
        self._begun = False
        start = UNSEEN if rebooted else identity.start
        self.processes = ContainerProcesses(identity.container, identity.pid, start)

    @property
    def is_held(self) -> bool:
        """Whether it is there and has had no start signal yet."""
        there = self.processes.alive or not self._visible_here
        return self._fifo is not None and not self._begun and there

    @property
    def has_begun(self) -> bool:
        """Whether its first command was started."""
        return self._read(None).begun

    @property
    def local(self) -> LocalProcesses | None:
        """The container's, unless the engine runs it out of this machine's sight."""
        return self.processes if self._visible_here else None

    def begin(self, visible_gpus: str) -> None:
        """Send the start signal."""
        assert self._fifo is not None
        visible = self.identity.visible
        self._begun = True
        send_start_signal(self._fifo, visible_gpus if visible is None else visible)

    async def wait(self) -> Exit:
        """Return when its first process has ended, and with it all that it had."""
        await self._ended()
        how = self._read(None)
        ended_by_itself = how.begun or self._begun
        if how.code is None and ended_by_itself and not self._rebooted:
            return self._read(await self._ask())
        return how

    async def _ended(self) -> None:
        if not self._visible_here:
            if not self._rebooted:
                await self._ask(math.inf)
            return
        await wait_for_end(self.identity.pid, self.identity.start)

    async def _ask(self, patience: float = _PATIENCE) -> int | None:
        """The exit code that the engine sees, if it answers within `patience` seconds."""
        with trio.move_on_after(patience):
            while True:
                try:
                    return await containers.wait(self._engine, self.identity.container)
                except NoEngine:
                    await trio.sleep(_ASK_AGAIN)
                except EngineError:
                    return None
        return None

    def _read(self, status: int | None) -> Exit:
        path = self.identity.exit_file
        return read_exit_file(path, self._key, status, other_boot=self._rebooted)

    async def refuse(self) -> None:
        """End one that never had a start signal; if the engine is away it ends where it would read that."""
        self._withdraw()
        if not self._visible_here and not self._rebooted:
            with contextlib.suppress(NoEngine, EngineError):
                await containers.kill(self._engine, self.identity.container)

    def _withdraw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(os.path.dirname(self.identity.exit_file), START))
        self.processes.kill_at_once()

    async def kill(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; by the engine where the processes are not ours, or paused."""
        if not self._begun:
            self.close()
        if self._visible_here and self.processes.may_signal:
            with trio.move_on_after(grace + _SLACK):
                return await end_tree(self.processes, grace)
            grace = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kill_by_engine, grace)
            await self._ended()
            nursery.cancel_scope.cancel()
        return None

    async def _kill_by_engine(self, grace: float) -> None:
        if grace:
            with trio.move_on_after(grace), contextlib.suppress(NoEngine, EngineError):
                await containers.terminate(self._engine, self.identity.container)
                await trio.sleep(grace)
        while True:
            with contextlib.suppress(NoEngine, EngineError):
                await containers.kill(self._engine, self.identity.container)
            await trio.sleep(_ASK_AGAIN)

    async def settle(self, grace: float) -> None:
        """Its first process takes all others with it."""
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close the FIFO; a shell that is still held ends, also one that has not come as far as the FIFO."""
        if self._fifo is None:
            return
        if not self._begun:
            self._withdraw()
        os.close(self._fifo)
        self._fifo = None
