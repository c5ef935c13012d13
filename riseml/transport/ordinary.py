"""What a daemon must not have from the shell of the command that happens to start it, since all jobs inherit it."""

import contextlib
import os
import platform
import sys

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_OF_PROCESS = 1


def make_ordinary(pid: int) -> None:
    """Give a new process nice 0, all CPUs and the ordinary classes of CPU and disk; say what cannot be undone."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(pid, range(os.cpu_count() or 1))
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("0")
    if (number := _IOPRIO_SET.get(platform.machine())) is not None:
        import ctypes  # takes 10 ms, and only who starts a daemon needs it

        ctypes.CDLL(None).syscall(number, _OF_PROCESS, pid, 0)
    try:
        nice = os.getpriority(os.PRIO_PROCESS, pid)
        if nice:
            os.setpriority(os.PRIO_PROCESS, pid, 0)
    except ProcessLookupError:  # it has ended, which is told elsewhere
        return
    except OSError:
        print(
            f"riseml: the daemon that this command starts, and so every job, has nice {nice} like this shell; "
            "to change that: rised --stop, then any riseml command in an ordinary shell",
            file=sys.stderr,
        )
