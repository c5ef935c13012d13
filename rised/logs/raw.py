"""The bytes of one log as they are, for `?raw=true`."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from rised.linux.files import opened_regular
from rised.logs.read import CHUNK, size_of
from rised.subscriptions import Subscription


async def raw(
    log: str,
    *,
    follow: bool,
    ended: Callable[[], bool],
    subscription: Subscription,
    send_bytes: Callable[[bytes], Awaitable[None]],
) -> None:
    """Send the bytes of `log`; with `follow`, until the job has `ended`. A log that was cut short begins again."""
    offset = 0
    while True:
        # Asked before the log is read, so that the job's last bytes are read.
        last = not follow or ended()
        size = size_of(log)
        if size < offset:
            offset = 0
        while offset < size:
            data = await trio.to_thread.run_sync(_read, log, offset, min(CHUNK, size - offset))
            if not data:
                break
            await send_bytes(data)
            offset += len(data)
        if last:
            return
        await subscription.wait()


def _read(log: str, offset: int, count: int) -> bytes:
    with suppress(FileNotFoundError), opened_regular(log) as fd:
        return os.pread(fd, count, offset)
    return b""
