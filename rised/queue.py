"""Who starts next. Pure.

The law: first come, first served. Experiments are served in order of their numbers; one that does not fit keeps its
place, and everything it could already take is put aside for it, so that nothing behind it can delay it. What comes
after may start only from what is then left, for example a job without GPUs behind one that waits for a GPU.
"""

from collections.abc import Iterable
from typing import NamedTuple

from rised.resources import Request, Room, shortage


class Waiting(NamedTuple):
    """An experiment with sub-experiments left to start, `slots` of them now as far as its concurrency goes."""

    experiment: int
    request: Request
    slots: int


class Decision(NamedTuple):
    """`start`: how many of each experiment start now. `why`: for those that could go on but do not fit, what lacks."""

    start: dict[int, int]
    why: dict[int, str]


def decide(waiting: Iterable[Waiting], free: Room) -> Decision:
    """Apply the law to `waiting`, which must come in order of experiment numbers."""
    start: dict[int, int] = {}
    why: dict[int, str] = {}
    ahead: int | None = None
    unused = left = free  # `left` is what of the unused nobody ahead has put aside
    for entry in waiting:
        started = 0
        while started < entry.slots and left.fits(entry.request):
            left, unused = left.less(entry.request), unused.less(entry.request)
            started += 1
        if started:
            start[entry.experiment] = started
        if started < entry.slots:
            lacks = shortage(entry.request, unused, "free") or f"its turn after {ahead}"
            why[entry.experiment] = f"waits for {lacks}"
            left = left.less(entry.request)
            ahead = entry.experiment if ahead is None else ahead
    return Decision(start, why)
