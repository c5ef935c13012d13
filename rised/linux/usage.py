"""Processor time and memory of a job's processes. They are read when a client asks, and never otherwise.

Processor time comes from the job's own control group, which also counts processes that have ended. Where the job has no
group, the living processes and the children that they waited for are added up. Processes that ended and were not waited
for are missing then, so the sum can fall.

Memory is each process's proportional share (PSS): pages that workers share count once.
"""

import contextlib
import os
from collections.abc import Iterable
from typing import NamedTuple

from rised.linux.files import read_small

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MICROSECOND, _NANOSECOND = 1e-6, 1e-9


class Use(NamedTuple):
    """Resource usage of one job; all 0 where none of its processes is on this machine."""

    cpu_seconds: float = 0.0
    """Since its start."""
    memory: int = 0
    """Bytes: each process's proportional share if the kernel shows it, else its resident set."""
    processes: int = 0


def measure(pids: Iterable[int], cgroup: str | None) -> Use:
    """Usage of `pids`, with the processor time of all that were ever in the control group at `cgroup`.

    Processes that are gone count nothing. Blocks for about 50 µs a process, and longer for one with many GiB.
    """
    seconds, memory, count = 0.0, 0, 0
    # Parents first: a process that ends meanwhile is missing rather than counted twice.
    for pid in sorted(pids):
        try:
            text = read_small(f"/proc/{pid}/stat")
        except OSError:
            continue
        seconds += cpu_seconds(text)
        memory += _memory(pid, text)
        count += 1
    counted = _cgroup_seconds(cgroup) if cgroup else None
    return Use(seconds if counted is None else counted, memory, count)


def cpu_seconds(stat: bytes) -> float:
    """Sum of utime, stime, cutime and cstime of a /proc/PID/stat, in seconds."""
    fields = stat.rpartition(b")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK


def resident(stat: bytes) -> int:
    """Size of the resident set by a /proc/PID/stat, in bytes."""
    return int(stat.rpartition(b")")[2].split()[21]) * _PAGE


def share(rollup: bytes) -> int | None:
    """Proportional share by a /proc/PID/smaps_rollup, in bytes."""
    for line in rollup.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    return None


def cgroup_seconds(cpu_stat: bytes) -> float | None:
    """Processor time by a control group's cpu.stat, in seconds."""
    for line in cpu_stat.splitlines():
        if line.startswith(b"usage_usec "):
            return int(line.split()[1]) * _MICROSECOND
    return None


def _cgroup_seconds(cgroup: str) -> float | None:
    with contextlib.suppress(OSError):
        return cgroup_seconds(read_small(os.path.join(cgroup, "cpu.stat")))
    with contextlib.suppress(OSError):  # of the first version of cgroups
        return int(read_small(os.path.join(cgroup, "cpuacct.usage"))) * _NANOSECOND
    return None


def _memory(pid: int, stat: bytes) -> int:
    try:
        proportional = share(read_small(f"/proc/{pid}/smaps_rollup"))
    except OSError:  # another user's, or gone
        proportional = None
    return resident(stat) if proportional is None else proportional
