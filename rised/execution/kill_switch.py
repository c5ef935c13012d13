"""What a kill interrupts: waiting for a job's end, and the grace period of one that is made to end."""

from collections.abc import Awaitable, Callable

import trio

from rised.policy.outcome import KillMode


class KillSwitch:
    """The kills of one sub-experiment."""

    def __init__(self, mode: KillMode, grace: float) -> None:
        """`mode` is that of an earlier kill; `grace` are the seconds from SIGTERM to SIGKILL."""
        self.mode = mode
        self._grace_seconds = grace
        self._waiting = trio.CancelScope()
        self._grace = trio.CancelScope()

    def kill(self, mode: KillMode) -> None:
        """End the waiting; a kill by force ends the grace period, too."""
        self.mode = max(self.mode, mode)
        self._waiting.cancel()
        if mode is KillMode.FORCE:
            self._grace.cancel()

    def until_killed(self) -> trio.CancelScope:
        """A scope that a kill cancels, at once if there was one."""
        self._waiting = trio.CancelScope()
        if self.mode:
            self._waiting.cancel()
        return self._waiting

    async def with_grace(self, end: Callable[[float], Awaitable[None]]) -> None:
        """Call `end` with the seconds of grace that are left, and again with 0 if a kill by force cuts them off."""
        if self.mode is not KillMode.FORCE:
            with trio.CancelScope() as self._grace:
                return await end(self._grace_seconds)
        return await end(0)
