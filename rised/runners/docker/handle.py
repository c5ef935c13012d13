"""One container and all processes in it: waited for, killed, found again."""

import contextlib
import math
import os

import msgspec
import trio

from rised.linux.process_tree import end_tree
from rised.linux.processes import ProcessSnapshot, ended, pidfd
from rised.runners.base import Exit, Job
from rised.runners.docker.engine import Engine
from rised.runners.docker.processes import ContainerProcesses
from rised.runners.shell import read_exit
from riseml_proto.errors import EngineError, NoEngine

UNSEEN = -1
"""The start of a first process that an engine runs out of this machine's sight."""
_PATIENCE = 60.0
"""Seconds that an exit code which only the engine knows is waited for: it may be starting again."""
_ASK_AGAIN = 1.0
_SLACK = 2.0
"""Seconds more than the grace after which processes that do not go are thought to be paused."""


class Identity(msgspec.Struct, frozen=True):
    """What finds a container again."""

    container: str
    pid: int
    start: int
    boot: str
    exit_file: str
    visible: str | None = None
    """What CUDA_VISIBLE_DEVICES has to be in it, where it sees no other GPUs than its own."""


class ContainerHandle:
    """A container and all processes in it."""

    def __init__(
        self,
        identity: Identity,
        job: Job,
        engine: Engine,
        leave: int | None,
        *,
        rebooted: bool = False,
    ) -> None:
        """`leave` is the FIFO, open; None for a container that an earlier daemon started."""
        self._rebooted = rebooted
        self._visible_here = identity.start != UNSEEN and not rebooted
        self._identity = identity
        self._key = job.key.encode()
        self._engine = engine
        self._leave = leave
        self._abandon = False
        start = UNSEEN if rebooted else identity.start
        self.processes = ContainerProcesses(identity.container, identity.pid, start)

    @property
    def identity(self) -> str:
        """The `Identity` as JSON."""
        return msgspec.json.encode(self._identity).decode()

    @property
    def is_held(self) -> bool:
        """Whether it is there and has no leave yet."""
        there = self.processes.alive or not self._visible_here
        return self._leave is not None and not self._abandon and there

    @property
    def has_begun(self) -> bool:
        """Whether its first command was started."""
        return self._read(None).begun

    def pids(self, snapshot: ProcessSnapshot) -> list[int]:
        """The container's."""
        return self.processes.pids(snapshot)

    @property
    def cgroup(self) -> str | None:
        """The container's."""
        return self.processes.cgroup

    def begin(self, visible_gpus: str) -> None:
        """Write the line that the shell waits for."""
        assert self._leave is not None
        visible = self._identity.visible if self._identity.visible is not None else visible_gpus
        self._abandon = True
        os.write(self._leave, f"go {visible}\n".encode())

    async def wait(self) -> Exit:
        """Return when its first process has ended, and with it all that it had."""
        await self._ended()
        how = self._read(None)
        ended_by_itself = how.begun or self._abandon
        if how.code is None and ended_by_itself and not self._rebooted:
            return self._read(await self._ask())
        return how

    async def _ended(self) -> None:
        if not self._visible_here:
            if not self._rebooted:
                await self._ask(math.inf)
            return
        with pidfd(self._identity.pid) as fd:
            if fd is not None and self.processes.alive:
                await ended(fd)

    async def _ask(self, patience: float = _PATIENCE) -> int | None:
        """The exit code that the engine sees, if it answers within `patience` seconds."""
        with trio.move_on_after(patience):
            while True:
                try:
                    return await self._engine.wait(self._identity.container)
                except NoEngine:
                    await trio.sleep(_ASK_AGAIN)
                except EngineError:
                    return None
        return None

    def _read(self, status: int | None) -> Exit:
        path = self._identity.exit_file
        return read_exit(path, self._key, status, other_boot=self._rebooted)

    async def refuse(self) -> None:
        """End one that never got leave; if the engine is away it ends where it would read its leave."""
        self._take_leave_away()
        if not self._visible_here and not self._rebooted:
            with contextlib.suppress(NoEngine, EngineError):
                await self._engine.kill(self._identity.container)

    def _take_leave_away(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(os.path.dirname(self._identity.exit_file), "leave"))
        self.processes.kill_at_once()

    async def kill(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; by the engine where the processes are not ours, or paused."""
        if not self._abandon:
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
                await self._engine.terminate(self._identity.container)
                await trio.sleep(grace)
        while True:
            with contextlib.suppress(NoEngine, EngineError):
                await self._engine.kill(self._identity.container)
            await trio.sleep(_ASK_AGAIN)

    async def settle(self, grace: float) -> None:
        """Its first process takes all others with it."""
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close the FIFO; a shell that was not let go ends, also one that has not come as far as the FIFO."""
        if self._leave is None:
            return
        if not self._abandon:
            self._take_leave_away()
        os.close(self._leave)
        self._leave = None
