"""What a decision is made from: the experiments that wait, the jobs that run, and the machine. Plain data, pure.

Times are seconds on any one clock; `Machine.now` is of the same clock.
"""

from collections.abc import Collection, Mapping
from math import inf
from typing import NamedTuple

from rised.policy.resources import Capacity, ResourceRequest

_BILLED_WITHOUT_GPUS = 0.01


def billed_gpus(request: ResourceRequest) -> float:
    """How many GPUs a running job is charged for: one without any counts as a hundredth of a GPU."""
    return max(request.gpus, _BILLED_WITHOUT_GPUS)


class Waiting(NamedTuple):
    """An experiment that has sub-experiments left to start."""

    experiment: int
    request: ResourceRequest
    """What each sub-experiment needs."""
    slots: int
    """How many of them its concurrency lets start now."""
    user: int = 0
    accounts: tuple[str, ...] = ()
    """The quotas that it counts against: `user:paul`, `group:students`."""
    priority: int = 0
    max_runtime: float | None = None
    """Seconds within which a sub-experiment that starts now has surely ended; None: no limit is known."""
    paused: bool = False
    eligible_since: float = inf
    """Since when nothing of its own has kept the next sub-experiment from starting."""


class Running(NamedTuple):
    """A sub-experiment that holds resources."""

    request: ResourceRequest
    """What is free again when it ends."""
    ends_by: float | None
    """When it has surely ended; None: no limit is known."""


class Machine(NamedTuple):
    """The machine at one instant, and what has been decided before."""

    free: Capacity
    now: float = 0.0
    running: Collection[Running] = ()
    usage: Mapping[int, float] = {}
    """User → GPU-seconds used, decayed; a missing user has used nothing."""
    gpu_quotas: Mapping[str, int] = {}
    """Account → GPUs that it may hold at once; a missing account may hold all."""
    gpus_held: Mapping[str, int] = {}
    """Account → GPUs that it holds."""
    reserved_user: int | None = None
    """The user who goes first whatever they have used, from the last decision."""
    last_dispatch: Mapping[int, float] = {}
    """User → when a job of theirs last started in its turn, from the decisions before."""
    drained: str | None = None
    """Why nothing starts at all; None: the machine is open."""
