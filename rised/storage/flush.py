"""Flushes of the write-ahead log to its disk: one for all who wait at the time, and few where many jobs start."""

import math
import os

import trio

from rised.crashpoints import crash_point
from rised.linux.threads import in_thread
from rised.log import log

STORM_SECONDS = 0.02
"""Seconds after a flush in which jobs may begin before their own flush."""


class Flush:
    """Runs one `fdatasync` at a time; a caller that comes meanwhile waits for the next one."""

    def __init__(self, fd: int) -> None:
        """`fd` is the write-ahead log, open."""
        self._fd = fd
        self._lock = trio.Lock()
        self._requests = 0
        self._done = 0
        self._later = trio.Event()
        self._last = -math.inf

    async def wait(self) -> None:
        """Return when a flush that began after this call has ended."""
        self._requests += 1
        ticket = self._requests
        async with self._lock:
            if self._done < ticket:
                covers = self._requests
                self._last = trio.current_time()
                crash_point("before-sync")
                await in_thread(os.fdatasync, self._fd)
                crash_point("after-sync")
                self._done = covers

    async def wait_or_later(self) -> None:
        """Return after a flush, or at once if the last one is so near that another comes in a moment."""
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
        """Make the flushes that were put off, until cancelled."""
        task_status.started()
        while True:
            await self._later.wait()
            await trio.sleep_until(self._last + STORM_SECONDS)
            self._later = trio.Event()
            await self._try()
