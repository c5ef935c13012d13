"""Which GPUs must not be handed out, and why. Pure.

One that the driver does not answer for, one that has reported a fault of its own (Xid), one that an administrator has
taken out, and one whose memory processes use that are not ours. A GPU comes back from a job only when nothing of the
job is left, so whoever is on one that is not handed out is a stranger.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_FAULTS_OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
"""Xids by which the driver tells that a program went wrong: an exception, a bad address, an end by force."""


class Process(NamedTuple):
    """A process on a GPU."""

    pid: int
    mem: int
    """MiB of the GPU's memory."""


@dataclass(frozen=True)
class Reading:
    """One GPU as the driver tells of it."""

    index: int
    processes: tuple[Process, ...] = ()
    lost: str | None = None
    """The driver's error, if it does not answer for this GPU."""


def is_fault_of_gpu(xid: int) -> bool:
    """Whether an Xid says that the GPU itself, or its driver, has failed."""
    return xid not in _FAULTS_OF_PROGRAMS


def out_of_use(
    off: Mapping[int, str], readings: Iterable[Reading], held: Collection[int], threshold: int
) -> dict[int, str]:
    """Index → why that GPU is not handed out.

    `off` are those taken out, with the reason; `held` those that are handed out; `threshold` is in MiB.
    """
    found: dict[int, str] = {}
    for reading in readings:
        used = sum(process.mem for process in reading.processes)
        if reading.lost is not None:
            found[reading.index] = f"fails: {reading.lost}"
        elif reading.index not in held and used > threshold:
            pids = ", ".join(str(process.pid) for process in reading.processes)
            found[reading.index] = f"used by others: {used} MiB (pid {pids})"
    return found | {
        index: f"taken out: {why}" if why else "taken out" for index, why in off.items()
    }
