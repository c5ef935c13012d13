"""How many connections there may be at once, so that descriptors remain for jobs, logs and the next client.

One that comes when there is no more room takes the place of the one that has idled longest; where none idles it is
turned away. Clients that keep connections must cope with one that was closed between two requests anyway.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Room:
    """The places for connections, and who of those that have one waits for a request."""

    def __init__(self, limit: int) -> None:
        """There are `limit` places."""
        self.limit = limit
        self._taken = 0
        self._idle: dict[trio.CancelScope, None] = {}  # in the order in which they began to wait

    @contextmanager
    def place(self) -> Iterator[bool]:
        """A place, or False where there is none. One that idles is told to give up its place."""
        self._taken += 1
        try:
            yield self._taken <= self.limit or self._dismiss()
        finally:
            self._taken -= 1

    @contextmanager
    def idling(self) -> Iterator[trio.CancelScope]:
        """Wait for a request in here; the scope that this gives is cancelled if the place is needed."""
        with trio.CancelScope() as scope:
            self._idle[scope] = None
            try:
                yield scope
            finally:
                self._idle.pop(scope, None)

    def _dismiss(self) -> bool:
        scope = next(iter(self._idle), None)
        if scope is None:
            return False
        del self._idle[scope]
        scope.cancel()
        return True
