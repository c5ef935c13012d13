"""What jobs use: processor time and memory of their processes, from /proc, when somebody asks and never otherwise."""

import os
from collections.abc import Iterable
from typing import NamedTuple

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What the processes of one job have used."""

    cpu_seconds: float
    """By all that live, and by the children that these have outlived."""
    memory: int
    """Bytes: each process's proportional share where the kernel tells it, else what it has resident."""
    processes: int


def measure(pids: Iterable[int]) -> Use:
    """Add up what `pids` use; those that are gone meanwhile count nothing. Blocks for about 50 µs each."""
    seconds, memory, count = 0.0, 0, 0
    for pid in pids:
        try:
            text = _read(f"/proc/{pid}/stat")
        except OSError:
            continue
        seconds += cpu_seconds(text)
        memory += _memory(pid, text)
        count += 1
    return Use(seconds, memory, count)


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
