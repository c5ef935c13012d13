"""Bringing the database's log to its disk: one flush for all who wait for one, and few where starts come in a storm."""

import math
import os

import trio

from rised.crashpoints import crash_point
from rised.log import log

STORM_SECONDS = 0.02
"""After a flush, what may begin before its own has so long."""


class Flush:
    """One `fdatasync` at a time; whoever comes while it runs waits for the one after it."""

    def __init__(self, fd: int) -> None:
        """`fd` is the write-ahead log's."""
        self._fd = fd
        self._lock = trio.Lock()
        self._asked = 0
        self._done = 0
        self._later = trio.Event()
        self._last = -math.inf

    async def wait(self) -> None:
        """Return when a flush that began after this call has ended."""
        self._asked += 1
        ticket = self._asked
        async with self._lock:
            if self._done < ticket:
                covers = self._asked
                self._last = trio.current_time()
                crash_point("before-sync")
                await trio.to_thread.run_sync(os.fdatasync, self._fd)
                crash_point("after-sync")
                self._done = covers

    async def wait_or_later(self) -> None:
        """The same, unless the last flush is so near that another is due in a moment."""
        if trio.current_time() - self._last > STORM_SECONDS:
            await self._try()
        else:
            self._later.set()

    async def _try(self) -> None:
        try:
            await self.wait()
        except OSError as error:
            log.error("cannot flush the database to its disk", error=str(error))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what was put off, until cancelled."""
        task_status.started()
        while True:
            await self._later.wait()
            await trio.sleep_until(self._last + STORM_SECONDS)
            self._later = trio.Event()
            await self._try()
