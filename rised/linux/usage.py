"""What jobs use: processor time and memory of their processes, from /proc, when somebody asks and never otherwise.

Processor time comes from the job's control group where it has one of its own, which counts what has ended, too. Where
it has none, it is added up over the living processes and the children that these have waited for. What ended and left
its children to others, or was not waited for, is missing then, so that the sum can fall.

Memory is each process's proportional share (PSS), so that pages which workers share count once.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MICROSECOND, _NANOSECOND = 1e-6, 1e-9


class Use(NamedTuple):
    """What the processes of one job use."""

    cpu_seconds: float = 0.0
    """Since its start."""
    memory: int = 0
    """Bytes: each process's proportional share where the kernel tells it, else what it has resident."""
    processes: int = 0


def measure(pids: Iterable[int], cgroup: str | None) -> Use:
    """What `pids` use, and all that ever were in the control group at `cgroup`; those that are gone count nothing.

    Blocks for about 50 µs a process, and longer for one with many GiB.
    """
    seconds, memory, count = 0.0, 0, 0
    # Parents first: what ends meanwhile is rather missing than counted twice.
    for pid in sorted(pids):
        try:
            text = _read(f"/proc/{pid}/stat")
        except OSError:
            continue
        seconds += cpu_seconds(text)
        memory += _memory(pid, text)
        count += 1
    counted = _cgroup_seconds(cgroup) if cgroup else None
    return Use(seconds if counted is None else counted, memory, count)


def cpu_seconds(stat: bytes) -> float:
    """utime, stime, cutime and cstime of a /proc/PID/stat, in seconds."""
    fields = stat.rpartition(b")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK


def resident(stat: bytes) -> int:
    """Bytes resident, by a /proc/PID/stat."""
    return int(stat.rpartition(b")")[2].split()[21]) * _PAGE


def share(rollup: bytes) -> int | None:
    """Bytes of the `Pss:` line of a /proc/PID/smaps_rollup."""
    for line in rollup.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    return None


def cgroup_seconds(cpu_stat: bytes) -> float | None:
    """Seconds of the `usage_usec` line of a control group's cpu.stat."""
    for line in cpu_stat.splitlines():
        if line.startswith(b"usage_usec "):
            return int(line.split()[1]) * _MICROSECOND
    return None


def _cgroup_seconds(cgroup: str) -> float | None:
    try:
        return cgroup_seconds(_read(os.path.join(cgroup, "cpu.stat")))
    except OSError:  # removed, or of the first version of cgroups
        pass
    try:
        return int(_read(os.path.join(cgroup, "cpuacct.usage"))) * _NANOSECOND
    except OSError:
        return None


def _memory(pid: int, stat: bytes) -> int:
    try:
        found = share(_read(f"/proc/{pid}/smaps_rollup"))
    except OSError:  # another user's, or gone
        found = None
    return resident(stat) if found is None else found


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
