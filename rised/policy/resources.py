"""What the machine has, what a job needs, and what is free. Pure.

Each amount is guaranteed in full or the job does not start: CPUs (fractions count), memory in MiB, GPUs by index.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from riseml_proto.waiting import Shortage

# Sums of CPU fractions such as ten times 0.1 must still fit one CPU.
_EPSILON = 1e-6


class ResourceRequest(NamedTuple):
    """What one sub-experiment needs, and is guaranteed while it runs; `mem` in MiB."""

    cpus: float = 0.0
    mem: int = 0
    gpus: int = 0


class Grant(NamedTuple):
    """What one sub-experiment holds; `gpus` are indices, ascending."""

    cpus: float = 0.0
    mem: int = 0
    gpus: tuple[int, ...] = ()


class Capacity(NamedTuple):
    """How much of each resource there is; which GPUs these are does not matter to the queue."""

    cpus: float
    mem: int
    gpus: int

    def fits(self, request: ResourceRequest) -> bool:
        """Whether there is enough for `request`."""
        return (
            request.cpus <= self.cpus + _EPSILON
            and request.mem <= self.mem
            and request.gpus <= self.gpus
        )

    def minus(self, request: ResourceRequest) -> "Capacity":
        """What remains when `request` has taken what it can; no amount gets below 0."""
        return Capacity(
            max(0.0, self.cpus - request.cpus),
            max(0, self.mem - request.mem),
            max(0, self.gpus - request.gpus),
        )

    def plus(self, request: ResourceRequest) -> "Capacity":
        """What there is once the resources of `request` are released."""
        return Capacity(self.cpus + request.cpus, self.mem + request.mem, self.gpus + request.gpus)


def shortages(request: ResourceRequest, capacity: Capacity) -> tuple[Shortage, ...]:
    """Each resource of which `capacity` has less than `request` needs; empty where it fits."""
    missing = []
    if request.gpus > capacity.gpus:
        missing.append(Shortage("GPU", request.gpus, capacity.gpus))
    if request.cpus > capacity.cpus + _EPSILON:
        missing.append(Shortage("CPU", request.cpus, capacity.cpus))
    if request.mem > capacity.mem:
        missing.append(Shortage("memory", request.mem, capacity.mem))
    return tuple(missing)


@dataclass
class Inventory:
    """The machine's resources and who holds them. The only mutable part of the policy; one scheduler owns it."""

    cpus: float
    mem: int
    gpus: tuple[int, ...]
    free_gpus: set[int] = field(init=False)
    unavailable_gpus: set[int] = field(init=False, default_factory=set)
    """Not handed out, for whatever reason; a job that holds one keeps it."""
    _granted: dict[object, Grant] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.free_gpus = set(self.gpus)

    @property
    def total(self) -> Capacity:
        """What the machine has, free or not."""
        return Capacity(self.cpus, self.mem, len(self.gpus))

    @property
    def free(self) -> Capacity:
        """What nobody holds; 0 of what adopted jobs hold more of than there is."""
        cpus = self.cpus - sum(grant.cpus for grant in self._granted.values())
        mem = self.mem - sum(grant.mem for grant in self._granted.values())
        return Capacity(max(0.0, cpus), max(0, mem), len(self.free_gpus - self.unavailable_gpus))

    def allocate(self, holder: object, request: ResourceRequest) -> Grant:
        """Grant `request` to `holder`, lowest GPU indices first. The caller has checked that it fits."""
        chosen = tuple(sorted(self.free_gpus - self.unavailable_gpus)[: request.gpus])
        assert len(chosen) == request.gpus
        return self.hold(holder, Grant(request.cpus, request.mem, chosen))

    def hold(self, holder: object, grant: Grant) -> Grant:
        """Record that `holder` has `grant`, as a job that was adopted after a restart has."""
        self._granted[holder] = grant
        self.free_gpus.difference_update(grant.gpus)
        return grant

    def release(self, holder: object) -> None:
        """Free what `holder` has, except for GPUs that the machine no longer declares."""
        grant = self._granted.pop(holder)
        held_by_others = {gpu for other in self._granted.values() for gpu in other.gpus}
        self.free_gpus.update(set(grant.gpus) & set(self.gpus) - held_by_others)

    def grants(self) -> Iterable[tuple[object, Grant]]:
        """Every holder and what it has."""
        return self._granted.items()
