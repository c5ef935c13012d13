"""File operations of one request: one after another, in a thread, with a user's rights.

What a thread waits for (a network file system, one that a user mounted and does not serve) holds up nobody but that
user: each has a few threads of their own, and neither a cancelled request nor the shutdown waits for them. So what a
thread works on must not be closed from elsewhere; it is closed with its last user (`beneath.Handle`).
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import trio

from rised.users.impersonation import impersonating
from rised.users.owner import Owner

T = TypeVar("T")

_THREADS = 4
_UPLOADS = 8
_Limiters = dict[int, trio.CapacityLimiter]
_threads: trio.lowlevel.RunVar[_Limiters] = trio.lowlevel.RunVar("threads for files")
_uploads: trio.lowlevel.RunVar[_Limiters] = trio.lowlevel.RunVar("uploads")


class Worker:
    """Does one thing at a time for `owner`, also where one was abandoned and goes on alone."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._turn = threading.Lock()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call `function` in a thread; if this is cancelled, it goes on alone."""

        def act() -> T:
            with self._turn, impersonating(self._owner):
                return function(*args)

        limiter = _limiter(_threads, self._owner.uid, _THREADS)
        return await trio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=limiter)


def upload_slot(uid: int) -> trio.CapacityLimiter:
    """To be held while a user's files come in: each upload has many of them open."""
    return _limiter(_uploads, uid, _UPLOADS)


def _limiter(kept: "trio.lowlevel.RunVar[_Limiters]", uid: int, count: int) -> trio.CapacityLimiter:
    try:
        limiters = kept.get()
    except LookupError:
        limiters = {}
        kept.set(limiters)
    return limiters.setdefault(uid, trio.CapacityLimiter(count))
