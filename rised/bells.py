"""Who waits for news of an experiment, and how they are woken.

A ring says only "look again": rings that come while nobody waits become one. Whoever listens begins
to listen before they look, so no news falls between the two.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Bell:
    """One listener's side."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        """Wake the listener, now or when it next waits."""
        self._rung.set()

    async def wait(self) -> None:
        """Return once the bell has rung since the last `wait` returned."""
        await self._rung.wait()
        self._rung = trio.Event()


class Bells:
    """The bells of all experiments. Only for use within one trio run."""

    def __init__(self) -> None:
        self._listeners: defaultdict[int, dict[Bell, int | None]] = defaultdict(dict)

    def ring(self, experiment: int, member: int | None = None) -> None:
        """Wake everyone who listens to `experiment`, or to `member` of it if the news are its alone."""
        for bell, wanted in self._listeners.get(experiment, {}).items():
            if member is None or wanted is None or wanted == member:
                bell.ring()

    @contextmanager
    def listen(self, experiment: int, member: int | None = None) -> Iterator[Bell]:
        """A bell that rings for `experiment`, or for `member` of it alone, until the block is left."""
        bell = Bell()
        self._listeners[experiment][bell] = member
        try:
            yield bell
        finally:
            del self._listeners[experiment][bell]
            if not self._listeners[experiment]:
                del self._listeners[experiment]
