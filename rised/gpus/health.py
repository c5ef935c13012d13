"""Which GPUs must not be handed out, and why. Pure.

Not handed out are: a GPU that the driver does not answer for, one that has reported a fault of its own (Xid), one that
an administrator has taken out, and one on which processes use memory that are not ours. A job gives its GPU back only
when nothing of the job is left, so processes on a GPU that nobody holds are not ours.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_XIDS_OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
"""Xids that report a fault of a program: an exception, a bad address, an end by force."""


class GpuProcess(NamedTuple):
    """A process that uses a GPU."""

    pid: int
    mem: int
    """MiB of the GPU's memory."""


@dataclass(frozen=True)
class GpuHealth:
    """The state of one GPU, read from the driver."""

    index: int
    processes: tuple[GpuProcess, ...] = ()
    lost: str | None = None
    """The driver's error, if it does not answer for this GPU."""


@dataclass(frozen=True)
class TakenOut:
    """An administrator, or a fault that was reported, has taken the GPU out."""

    reason: str


@dataclass(frozen=True)
class Failing:
    """The driver does not answer for the GPU."""

    error: str


@dataclass(frozen=True)
class UsedByOthers:
    """Processes that are not ours use the GPU."""

    processes: tuple[GpuProcess, ...]


Unavailable = TakenOut | Failing | UsedByOthers
"""Why a GPU is not handed out."""


def explain(why: Unavailable, process: Callable[[int], str] = str) -> str:
    """Word the reason. `process` turns a pid into what is shown of it."""
    match why:
        case TakenOut(reason):
            return f"taken out: {reason}" if reason else "taken out"
        case Failing(error):
            return f"fails: {error}"
        case UsedByOthers(processes):
            pids = ", ".join(process(pid) for pid, _ in processes)
            return f"used by others: {sum(mem for _, mem in processes)} MiB (pid {pids})"


def is_gpu_fault(xid: int) -> bool:
    """Whether an Xid says that the GPU itself, or its driver, has failed."""
    return xid not in _XIDS_OF_PROGRAMS


def unavailable(
    taken_out: Mapping[int, str],
    readings: Iterable[GpuHealth],
    held: Collection[int],
    foreign_mem: int,
) -> dict[int, Unavailable]:
    """Index → why that GPU is not handed out.

    `taken_out`: index → reason. `held`: the GPUs that jobs have. `foreign_mem`: MiB that processes which are not ours
    may use on a GPU that is handed out all the same.
    """
    reasons: dict[int, Unavailable] = {}
    for gpu in readings:
        if gpu.lost is not None:
            reasons[gpu.index] = Failing(gpu.lost)
        elif gpu.index not in held and sum(mem for _, mem in gpu.processes) > foreign_mem:
            reasons[gpu.index] = UsedByOthers(gpu.processes)
    return reasons | {index: TakenOut(reason) for index, reason in taken_out.items()}
