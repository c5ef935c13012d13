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
        self._listeners: defaultdict[int, set[Bell]] = defaultdict(set)

    def ring(self, experiment: int) -> None:
        """Wake everyone who listens to `experiment`. Costs a look-up where nobody does."""
        for bell in self._listeners.get(experiment, ()):
            bell.ring()

    @contextmanager
    def listen(self, experiment: int) -> Iterator[Bell]:
        """A bell that rings for `experiment` until the block is left."""
        bell = Bell()
        self._listeners[experiment].add(bell)
        try:
            yield bell
        finally:
            self._listeners[experiment].discard(bell)
            if not self._listeners[experiment]:
                del self._listeners[experiment]
