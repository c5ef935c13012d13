"""What the kernel tells of another process: memory, CPU time, wakeups; and which ones belong to a directory."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """In MB, 10^6 bytes; `pss` shares out what several processes have in common."""

    rss: float
    pss: float


class Usage(NamedTuple):
    """Over some seconds."""

    cpu: float
    """Per cent of one core."""
    wakeups: float
    """Per second, over all threads."""


def memory(pid: int) -> Memory:
    """What a process has in memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return Memory(values["Rss"], values["Pss"])


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used; /proc/PID/stat counts only hundredths of a second."""
    # As clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of a whole process.
    return time.clock_gettime((~pid << 3) | 2)


def usage(pid: int, seconds: float) -> Usage:
    """What a process does in the next `seconds`."""
    cpu, wakeups = cpu_seconds(pid), _wakeups(pid)
    time.sleep(seconds)
    return Usage(
        100 * (cpu_seconds(pid) - cpu) / seconds, max(0, _wakeups(pid) - wakeups) / seconds
    )


def _wakeups(pid: int) -> int:
    switches = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text()
        (line,) = [x for x in text.splitlines() if x.startswith("voluntary_ctxt_switches")]
        switches += int(line.split()[1])
    return switches


def end_processes_of(directory: Path) -> None:
    """Kill every process whose environment names `directory`; return when none is left."""
    while pids := list(_processes_of(directory)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _processes_of(directory: Path) -> Iterator[int]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environ = Path("/proc", name, "environ").read_bytes()
            if int(name) != os.getpid() and os.fsencode(directory) in environ:
                yield int(name)
