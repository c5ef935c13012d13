"""Subscriptions to changes of experiments: whoever follows one is woken when it changes.

A notification says only "look again": several that come before the subscriber waits become one. A subscriber subscribes
before it looks, so no change is missed between the two.

Of many that are woken, one goes on at a time, and in a crowd with a pause between two: a look costs a millisecond, and
hundreds at once would delay everybody else for as long as all of them take.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import trio

_CROWD = 8
"""Subscribers that are woken together without a pause."""
_PAUSE = 0.001
"""Seconds."""


class Subscription:
    """One subscriber's side."""

    def __init__(self, throttle: trio.Lock | None = None) -> None:
        """`throttle` is shared by all subscribers, one of whom goes on at a time; None for one alone."""
        self._notified = trio.Event()
        self._throttle = throttle

    def notify(self) -> None:
        """Wake the subscriber, now or when it next waits."""
        self._notified.set()

    async def wait(self) -> None:
        """Return once there was a notification since the last `wait` returned."""
        await self._notified.wait()
        if self._throttle:
            async with self._throttle:
                if self._throttle.statistics().tasks_waiting > _CROWD:
                    await trio.sleep(_PAUSE)
        self._notified = trio.Event()


class Subscriptions:
    """Who is subscribed to which experiment. Only for use within one trio run."""

    def __init__(self) -> None:
        self._throttle = trio.Lock()
        self._subscribers: defaultdict[int, dict[Subscription, int | None]] = defaultdict(dict)

    def notify(self, experiment: int, member: int | None = None) -> None:
        """Wake all subscribers of `experiment`; with `member`, those of that member and of the whole experiment."""
        for subscription, wanted in self._subscribers.get(experiment, {}).items():
            if member is None or wanted is None or wanted == member:
                subscription.notify()

    @contextmanager
    def listen(self, experiment: int, member: int | None = None) -> Iterator[Subscription]:
        """Subscribe to `experiment`, or to one `member` of it, until the block is left."""
        subscription = Subscription(self._throttle)
        self._subscribers[experiment][subscription] = member
        try:
            yield subscription
        finally:
            del self._subscribers[experiment][subscription]
            if not self._subscribers[experiment]:
                del self._subscribers[experiment]
