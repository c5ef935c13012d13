"""A limit for connections, so that file descriptors remain for jobs, logs and the next client.

A connection that arrives at the limit replaces another one:

1. an idle connection, if there is one; those of the user with the most connections go first;
2. otherwise the newest connection of the user with the most connections, if the newcomer's user has fewer;
3. otherwise none: the newcomer is turned away.

So no user can keep the others out. A client that keeps a connection, or follows a log, has to cope with a cut anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class _Holder:
    """One user's connections: all of them, and the idle ones, in each case the oldest first."""

    def __init__(self) -> None:
        self.all: dict[trio.CancelScope, None] = {}
        self.idle: dict[trio.CancelScope, None] = {}


class ConnectionLimiter:
    """Counts the connections of each user, and cuts one off where a newcomer must have its slot."""

    def __init__(self, limit: int) -> None:
        """`limit`: the connections that there may be at once."""
        self.limit = limit
        self._taken = 0
        self._holders: dict[int, _Holder] = {}

    @contextmanager
    def slot(self, uid: int) -> Iterator[bool]:
        """Hold a slot for a connection of `uid`; gives False where there is none. The block may be cancelled."""
        holder = self._holders.setdefault(uid, _Holder())
        admitted = self._taken < self.limit or self._dismiss(holder)
        self._taken += admitted
        with trio.CancelScope() as scope:
            if admitted:
                holder.all[scope] = None
            try:
                yield admitted
            finally:
                self._taken -= admitted
                holder.all.pop(scope, None)
                if not holder.all:
                    self._holders.pop(uid, None)

    @contextmanager
    def idling(self, uid: int) -> Iterator[trio.CancelScope]:
        """Mark a connection of `uid` as idle; the given scope is cancelled when a newcomer needs the slot."""
        holder = self._holders.setdefault(uid, _Holder())
        with trio.CancelScope() as scope:
            holder.idle[scope] = None
            try:
                yield scope
            finally:
                holder.idle.pop(scope, None)

    def _dismiss(self, newcomer: _Holder) -> bool:
        """Cut off one connection for the newcomer's; False where the newcomer's user has as many as anybody."""
        largest = max(self._holders.values(), key=lambda holder: len(holder.all))
        for holder in (largest, newcomer, *self._holders.values()):
            if holder.idle:
                longest = next(iter(holder.idle))
                del holder.idle[longest]
                longest.cancel()
                return True
        if len(largest.all) <= len(newcomer.all) + 1:
            return False
        newest, _ = largest.all.popitem()
        newest.cancel()
        return True
