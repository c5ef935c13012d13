"""What the machine has, what a job asks for, and what is left. Pure.

Amounts are guarantees, all or nothing: CPUs (fractions count), memory in MiB, GPUs by index.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from riseml_proto.waiting import Shortage

# Sums of CPU fractions such as ten times 0.1 must still fit one CPU.
_EPSILON = 1e-6


class ResourceRequest(NamedTuple):
    """What one sub-experiment is guaranteed while it runs."""

    cpus: float = 0.0
    mem: int = 0
    gpus: int = 0


class Grant(NamedTuple):
    """What one sub-experiment holds: amounts, and which GPUs (indices, ascending)."""

    cpus: float = 0.0
    mem: int = 0
    gpus: tuple[int, ...] = ()


class Capacity(NamedTuple):
    """How much there is, as numbers alone; what a decision about the queue needs."""

    cpus: float
    mem: int
    gpus: int

    def fits(self, request: ResourceRequest) -> bool:
        """Whether all of `request` is there."""
        return (
            request.cpus <= self.cpus + _EPSILON
            and request.mem <= self.mem
            and request.gpus <= self.gpus
        )

    def less(self, request: ResourceRequest) -> "Capacity":
        """What is left when `request` has taken what it can; never below nothing."""
        return Capacity(
            max(0.0, self.cpus - request.cpus),
            max(0, self.mem - request.mem),
            max(0, self.gpus - request.gpus),
        )

    def plus(self, request: ResourceRequest) -> "Capacity":
        """What is there when what `request` says has been given back."""
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
    """The machine's amounts and what is left of them. The only mutable part; one scheduler owns it."""

    cpus: float
    mem: int
    gpus: tuple[int, ...]
    free_gpus: set[int] = field(init=False)
    unavailable_gpus: set[int] = field(init=False, default_factory=set)
    """Not handed out, for whatever reason; whoever has one keeps it."""
    _granted: dict[object, Grant] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.free_gpus = set(self.gpus)

    @property
    def total(self) -> Capacity:
        """All that the machine has."""
        return Capacity(self.cpus, self.mem, len(self.gpus))

    @property
    def free(self) -> Capacity:
        """What nobody holds; nothing where adopted jobs hold more than there is."""
        cpus = self.cpus - sum(grant.cpus for grant in self._granted.values())
        mem = self.mem - sum(grant.mem for grant in self._granted.values())
        return Capacity(max(0.0, cpus), max(0, mem), len(self.free_gpus - self.unavailable_gpus))

    def take(self, holder: object, request: ResourceRequest) -> Grant:
        """Hand `request` to `holder`, lowest GPU indices first. The caller has checked that it fits."""
        chosen = tuple(sorted(self.free_gpus - self.unavailable_gpus)[: request.gpus])
        assert len(chosen) == request.gpus
        return self.hold(holder, Grant(request.cpus, request.mem, chosen))

    def hold(self, holder: object, grant: Grant) -> Grant:
        """Note what `holder` already has: a job that was adopted after a restart."""
        self._granted[holder] = grant
        self.free_gpus.difference_update(grant.gpus)
        return grant

    def give_back(self, holder: object) -> None:
        """Return what `holder` has. GPUs that the machine no longer declares do not come back."""
        held_by_others = {
            gpu for who, g in self._granted.items() if who != holder for gpu in g.gpus
        }
        grant = self._granted.pop(holder)
        self.free_gpus.update(set(grant.gpus) & set(self.gpus) - held_by_others)

    def holders(self) -> Iterable[tuple[object, Grant]]:
        """Who holds what."""
        return self._granted.items()
