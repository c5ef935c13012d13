"""How much GPU time users have used, where the past counts less and less: half of it after each half-life. Pure."""

from collections.abc import Mapping
from math import expm1, inf, log
from typing import NamedTuple


class Used(NamedTuple):
    """What one user had used, as it counted at `at_ms`."""

    gpu_seconds: float = 0.0
    at_ms: int = 0


class FairShare:
    """The books of all users, by uid."""

    def __init__(self, half_life: float, known: Mapping[int, Used]) -> None:
        """`half_life` is in seconds; with 0 only what runs now counts."""
        self._lifetime = half_life / log(2)
        self._used = dict(known)

    def at(self, user: int, now_ms: int) -> float:
        """The GPU-seconds of what has ended that still count for `user`."""
        used = self._used.get(user)
        if used is None:
            return 0.0
        return used.gpu_seconds * (1 - self._faded((now_ms - used.at_ms) / 1000))

    def spent(self, rate: float, seconds: float) -> float:
        """The GPU-seconds that count of what has used `rate` GPUs for `seconds` until now."""
        if self._lifetime in (0, inf):
            return rate * max(0.0, seconds) * (self._lifetime > 0)
        return rate * self._lifetime * self._faded(seconds)

    def charged(self, user: int, rate: float, began_ms: int, ended_ms: int) -> Used:
        """What `user` has used when that has ended, too. Nothing is noted yet."""
        spent = self.spent(rate, (ended_ms - began_ms) / 1000)
        return Used(self.at(user, ended_ms) + spent, ended_ms)

    def note(self, user: int, used: Used) -> None:
        """Keep what `charged` told."""
        self._used[user] = used

    def _faded(self, seconds: float) -> float:
        """How much of something counts no more after `seconds`, from 0 to 1; before it, nothing."""
        if not self._lifetime:
            return 1.0
        return -expm1(-max(0.0, seconds) / self._lifetime)
