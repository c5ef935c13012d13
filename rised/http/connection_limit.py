"""How many connections there may be at once, so that descriptors remain for jobs, logs and the next client.

One that comes when there is no more room takes the place of one that idles, of the user who has most of them if there
is one. Where none idles, a user who has fewer takes the place of the newest of the one who has most, who is turned away
in turn: so nobody can keep others out. Clients that keep connections, or follow logs, must cope with being cut off
anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class _Holder:
    """One user's connections: all, and those that wait for a request in the order in which they began to."""

    def __init__(self) -> None:
        self.all: dict[trio.CancelScope, None] = {}
        self.idle: dict[trio.CancelScope, None] = {}


class ConnectionLimiter:
    """The places for connections, and who of those that have one waits for a request."""

    def __init__(self, limit: int) -> None:
        """There are `limit` places."""
        self.limit = limit
        self._taken = 0
        self._holders: dict[int, _Holder] = {}

    @contextmanager
    def place(self, uid: int) -> Iterator[bool]:
        """A place for a user's connection, or False where there is none. What is in here may be cut off."""
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
        """Wait for a request in here; the scope that this gives is cancelled if the place is needed."""
        holder = self._holders.setdefault(uid, _Holder())
        with trio.CancelScope() as scope:
            holder.idle[scope] = None
            try:
                yield scope
            finally:
                holder.idle.pop(scope, None)

    def _dismiss(self, newcomer: _Holder) -> bool:
        """Make room for one more; False where that would take it from somebody who has no more than the newcomer."""
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
