"""Calls in threads that wait where the machine has no more threads to give."""

import errno
import os
from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")

_NO_THREAD = "can't start new thread"  # there is no class for it
_PAUSES = (0.01, 0.05, 0.2, 0.5, 1.0, 2.0)  # seconds


async def in_thread(
    function: Callable[..., T], *args: object, abandon_on_cancel: bool = False
) -> T:
    """As `trio.to_thread.run_sync`, but raises `OSError` with EAGAIN where seconds later there is still no thread."""
    for pause in _PAUSES:
        try:
            return await trio.to_thread.run_sync(
                function, *args, abandon_on_cancel=abandon_on_cancel
            )
        except RuntimeError as error:
            if str(error) != _NO_THREAD:
                raise
            await trio.sleep(pause)
    raise OSError(errno.EAGAIN, f"no thread can be started: {os.strerror(errno.EAGAIN)}")
