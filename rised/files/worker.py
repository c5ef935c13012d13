"""File operations of one request: one after another, in a thread, with a user's rights.

A thread may hang, on a network file system or on one that a user mounted and does not serve. That delays this user
alone: each user has a few threads of their own, and neither a cancelled request nor the shutdown waits for a thread. So
nobody may close from outside what a thread works on; a `beneath.Handle` is closed when nobody refers to it any more.
"""

import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

import trio

from rised.files.problems import errors_about
from rised.users.impersonation import impersonating
from rised.users.owner import Owner
from riseml_proto.errors import RisemlError
from riseml_proto.uris import Remote

T = TypeVar("T")

_THREADS = 4
_UPLOADS = 8
_Limiters = dict[int, trio.CapacityLimiter]
_threads: trio.lowlevel.RunVar[_Limiters] = trio.lowlevel.RunVar("threads for files")
_uploads: trio.lowlevel.RunVar[_Limiters] = trio.lowlevel.RunVar("uploads")


class Worker:
    """Runs one operation at a time with the rights of `owner`, even after one was abandoned and still runs."""

    def __init__(self, owner: Owner, uri: Remote) -> None:
        """An `OSError` of an operation becomes a `RisemlError` about `uri`."""
        self._owner = owner
        self._uri = uri
        self._turn = threading.Lock()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call `function` in a thread and return its result. When cancelled, the thread runs on alone."""

        def act() -> T:
            with self._turn, impersonating(self._owner):
                try:
                    with errors_about(self._uri):
                        return function(*args)
                except RisemlError as error:
                    _drop_locals(error)
                    raise

        limiter = _limiter(_threads, self._owner.uid, _THREADS)
        return await trio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=limiter)


def _drop_locals(error: BaseException | None) -> None:
    """Let the frames that an error went through forget what they hold, so that `Handle`s among it are closed.

    An error and its frames refer to each other, and a daemon that idles collects such circles hours later. Meanwhile no
    disk could be unmounted on which a path was mistyped.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def upload_slot(uid: int) -> trio.CapacityLimiter:
    """The limiter for a user's uploads at one time, each of which keeps many files open."""
    return _limiter(_uploads, uid, _UPLOADS)


def _limiter(kept: "trio.lowlevel.RunVar[_Limiters]", uid: int, count: int) -> trio.CapacityLimiter:
    try:
        limiters = kept.get()
    except LookupError:
        limiters = {}
        kept.set(limiters)
    return limiters.setdefault(uid, trio.CapacityLimiter(count))
