"""Lets starts through: all of them in ordinary times, one after another while the machine lacks something.

When processes, memory or open files are used up, eighty jobs that try again at once would fail again, and use up what
is left. So one of them tries after a pause. When it could start, the next one tries.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from rised.policy.shortage import pause


class StartGate:
    """The way that every start of a job on this machine takes."""

    def __init__(self) -> None:
        self._tries = 0
        self._open_at = 0.0
        self._turn = trio.Lock()

    @property
    def is_short(self) -> bool:
        """Whether the last start met a shortage of the machine."""
        return self._tries > 0

    @asynccontextmanager
    async def passing(self, waiting: trio.CancelScope) -> AsyncIterator[None]:
        """Wait until a start may be tried, or `waiting` is cancelled; then the caller tries it inside this scope."""
        if not self._tries:
            yield
            return
        with waiting:
            await self._turn.acquire()
            try:
                await trio.sleep_until(self._open_at if self._tries else -math.inf)
            except BaseException:
                self._turn.release()
                raise
        if waiting.cancelled_caught:
            yield
            return
        try:
            yield
        finally:
            self._turn.release()

    def note_shortage(self) -> None:
        """A start failed because the machine lacks something."""
        if trio.current_time() >= self._open_at:  # those that failed at the same time count once
            self._tries += 1
            self._open_at = trio.current_time() + pause(self._tries)

    def note_start(self) -> None:
        """A job has begun."""
        self._tries = 0
