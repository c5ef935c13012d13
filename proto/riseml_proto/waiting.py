"""Why something waits: a reason as data, and the one sentence that says it.

The daemon decides and sends reasons. Only `sentence` turns one into words, for whoever reads it: no code takes a
sentence apart. A new kind of reason needs a new version of the API, since an older client knows no such `type`.
"""

from collections.abc import Iterable
from typing import Literal, assert_never

import msgspec


class Shortage(msgspec.Struct, frozen=True):
    """One resource of which less is there than is needed."""

    resource: Literal["GPU", "CPU", "memory"]
    needed: float
    """GPUs, CPUs or MiB."""
    available: float


class LacksResources(msgspec.Struct, frozen=True, tag_field="type", tag="resources"):
    """The machine has less free than it needs."""

    missing: tuple[Shortage, ...]


class BehindExperiment(msgspec.Struct, frozen=True, tag_field="type", tag="turn"):
    """It would fit, but what is free is reserved for another experiment."""

    experiment: int
    """The first one that waits for resources."""


class BehindMember(msgspec.Struct, frozen=True, tag_field="type", tag="sub-experiment"):
    """Sub-experiments of a set start in their order, and another one is next."""

    id: str


class SlotsTaken(msgspec.Struct, frozen=True, tag_field="type", tag="concurrency"):
    """As many sub-experiments run as the set's concurrency allows."""

    slots: int
    experiment: int | None = None
    """The set, where one of its sub-experiments waits; None where the set itself does."""


class QuotaReached(msgspec.Struct, frozen=True, tag_field="type", tag="quota"):
    """It would hold more GPUs than a quota allows at once."""

    account: str
    """Whose quota: `user:paul`, `group:students`."""
    gpus: int
    """The quota."""


class Paused(msgspec.Struct, frozen=True, tag_field="type", tag="paused"):
    """Somebody has paused the experiment."""

    experiment: int


class ServerDrained(msgspec.Struct, frozen=True, tag_field="type", tag="drained"):
    """An administrator lets nothing new start on the server."""

    reason: str
    """Their own words; may be empty."""


class AwaitsImage(msgspec.Struct, frozen=True, tag_field="type", tag="image"):
    """Its image is being pulled or built."""


class StartPutOff(msgspec.Struct, frozen=True, tag_field="type", tag="shortage"):
    """It could not be started for now, and is tried again after growing pauses."""

    problem: str
    """What stands in the way: `/output: Read-only file system`."""


WaitReason = (
    LacksResources
    | BehindExperiment
    | BehindMember
    | SlotsTaken
    | QuotaReached
    | Paused
    | ServerDrained
    | AwaitsImage
    | StartPutOff
)


def sentence(reason: WaitReason, *, own: bool = True) -> str:
    """Word a reason; with `own` for the user whose experiment it is, else for anybody else."""
    match reason:
        case LacksResources(missing):
            return f"waits for {amounts(missing, 'free')}"
        case BehindExperiment(experiment):
            return f"waits for its turn after {experiment}"
        case BehindMember(id):
            return f"waits for {id} to start"
        case SlotsTaken(1, None):
            return "waits for its only slot"
        case SlotsTaken(1, experiment):
            return f"waits for the only slot of {experiment}"
        case SlotsTaken(slots, experiment):
            whose = "its" if experiment is None else f"{experiment}'s"
            return f"waits for one of {whose} {slots} slots"
        case QuotaReached(account, gpus):
            kind, _, name = account.partition(":")
            if kind == "user":
                others = f"{'your' if own else 'their'} other experiments"
            else:
                others = f"other experiments of {kind} {name}"
            return f"waits for {others}: at most {counted(gpus, 'GPU')} at once"
        case Paused(experiment):
            return f"paused; riseml resume {experiment} lets it go on"
        case ServerDrained(text):
            return "the server is drained" + (f": {text}" if text else "")
        case AwaitsImage():
            return "waits for its image"
        case StartPutOff(problem):
            return f"cannot start yet, is tried again: {problem}"
    assert_never(reason)


def amounts(missing: Iterable[Shortage], where: str) -> str:
    """Name each amount that is needed and how much of it is there: `2 GPUs (1 free)` if `where` is `free`."""
    return ", ".join(f"{_amount(short)} ({_number(short.available)} {where})" for short in missing)


def _amount(short: Shortage) -> str:
    if short.resource == "memory":
        return f"{_number(short.needed)} MiB of memory"
    return counted(short.needed, short.resource)


def counted(number: float, unit: str) -> str:
    """Word a number of things: `1 GPU`, `2 GPUs`."""
    return f"{_number(number)} {unit}{'s' * (number != 1)}"


def _number(amount: float) -> str:
    return f"{round(amount, 3):.15g}"
