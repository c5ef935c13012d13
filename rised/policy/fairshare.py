"""How much GPU time users have used, with exponential decay: half of it is forgotten after each half-life. Pure."""

from collections.abc import Mapping
from math import expm1, inf, log
from typing import NamedTuple


class Used(NamedTuple):
    """What one user had used, decayed to the time `at_ms`."""

    gpu_seconds: float = 0.0
    at_ms: int = 0


class FairShare:
    """The decayed usage of all users, by uid."""

    def __init__(self, half_life: float, known: Mapping[int, Used]) -> None:
        """`half_life` is in seconds; with 0 only what runs now counts."""
        self._lifetime = half_life / log(2)
        self._used = dict(known)

    def used_by(self, user: int, now_ms: int) -> float:
        """The GPU-seconds of ended jobs that still count for `user`."""
        used = self._used.get(user)
        if used is None:
            return 0.0
        return used.gpu_seconds * (1 - self._decayed((now_ms - used.at_ms) / 1000))

    def spent(self, gpus: float, seconds: float) -> float:
        """The GPU-seconds that count of a job that has used `gpus` for `seconds` until now."""
        if self._lifetime in (0, inf):
            return gpus * max(0.0, seconds) * (self._lifetime > 0)
        return gpus * self._lifetime * self._decayed(seconds)

    def charged(self, user: int, gpus: float, began_ms: int, ended_ms: int) -> Used:
        """What `user` has used once a job is charged that used `gpus` from `began_ms` to `ended_ms`.

        Nothing changes yet: the caller writes it down first, then calls `record`.
        """
        spent = self.spent(gpus, (ended_ms - began_ms) / 1000)
        return Used(self.used_by(user, ended_ms) + spent, ended_ms)

    def record(self, user: int, used: Used) -> None:
        """Let `used`, which `charged` returned, count from now on."""
        self._used[user] = used

    def _decayed(self, seconds: float) -> float:
        """The fraction of usage that is forgotten after `seconds`, from 0 to 1; a negative time forgets nothing."""
        if not self._lifetime:
            return 1.0
        return -expm1(-max(0.0, seconds) / self._lifetime)
