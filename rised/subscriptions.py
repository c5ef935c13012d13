"""Who waits for news of an experiment, and how they are woken.

A ring says only "look again": rings that come while nobody waits become one. Whoever listens begins
to listen before they look, so no news falls between the two.

One of many who are woken goes on at a time, and in a crowd with a rest between two: to look costs a
millisecond, and hundreds who look at once would hold up everybody else for as long as all of them take.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import trio

_CROWD = 8
_REST = 0.001


class _WakeUpThrottle:
    """Lets one through in each round of the main loop."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def pass_through(self) -> None:
        """Return when it is the caller's turn."""
        async with self._lock:
            if self._lock.statistics().tasks_waiting > _CROWD:
                await trio.sleep(_REST)


class Subscription:
    """One listener's side."""

    def __init__(self, door: _WakeUpThrottle | None = None) -> None:
        """`door` is what all listeners share; None for one alone."""
        self._rung = trio.Event()
        self._door = door

    def notify(self) -> None:
        """Wake the listener, now or when it next waits."""
        self._rung.set()

    async def wait(self) -> None:
        """Return once the bell has rung since the last `wait` returned."""
        await self._rung.wait()
        if self._door:
            await self._door.pass_through()
        self._rung = trio.Event()


class Subscriptions:
    """The bells of all experiments. Only for use within one trio run."""

    def __init__(self) -> None:
        self._door = _WakeUpThrottle()
        self._listeners: defaultdict[int, dict[Subscription, int | None]] = defaultdict(dict)

    def notify(self, experiment: int, member: int | None = None) -> None:
        """Wake everyone who listens to `experiment`, or to `member` of it if the news are its alone."""
        for subscription, wanted in self._listeners.get(experiment, {}).items():
            if member is None or wanted is None or wanted == member:
                subscription.notify()

    @contextmanager
    def listen(self, experiment: int, member: int | None = None) -> Iterator[Subscription]:
        """A bell that rings for `experiment`, or for `member` of it alone, until the block is left."""
        subscription = Subscription(self._door)
        self._listeners[experiment][subscription] = member
        try:
            yield subscription
        finally:
            del self._listeners[experiment][subscription]
            if not self._listeners[experiment]:
                del self._listeners[experiment]
