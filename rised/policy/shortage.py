"""What keeps a job from starting for a while, and how long to wait for its end. Pure.

An error that passes by itself is no fault of the job: the job waits, and is tried again after growing pauses. What is
still so after `GIVE_UP_SECONDS` is said to be the end.
"""

import errno
import re
from collections.abc import Sequence

GIVE_UP_SECONDS = 3600.0
"""How long one job is tried again and again. A full disk and an engine that is away are waited for without end."""
LONGEST_PAUSE = 60.0
"""Seconds."""

_OF_THE_MACHINE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_OF_A_DISK = frozenset(
    {errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.ENOTCONN}
    | {errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENODEV}
    | {errno.ENXIO, errno.ESHUTDOWN, errno.EREMOTEIO, errno.EBUSY, errno.EINTR}
)
_NO_FORK = re.compile(
    r"[^:\n]*: (?:line )?(?:\d+: )?(?:eval: )?(?:Cannot fork|fork: (?:retry: )?Resource temporarily unavailable)"
)
FORK_CODES = (2, 254)
"""What dash and bash end with when they cannot fork."""
_SIMPLE = re.compile(r"[^\n;&|<>()`$#]*(?:\$\{?\w+\}?[^\n;&|<>()`$#]*)*")


def passes(number: int | None) -> bool:
    """Whether the kernel's error `number` may be gone when the same is tried again."""
    return number in _OF_THE_MACHINE or number in _OF_A_DISK


def is_of_the_machine(number: int | None) -> bool:
    """Whether every job meets the error `number` as long as it lasts: processes, memory or open files are used up."""
    return number in _OF_THE_MACHINE


def pause(tries: int) -> float:
    """Seconds to wait after the `tries`-th try in a row that failed."""
    return min(LONGEST_PAUSE, 2.0 ** min(tries - 1, 16))


def could_not_fork(commands: Sequence[str], code: int | None, output: bytes) -> bool:
    """Whether a job's shell could not fork the job's program, so that nothing of the job has run.

    `output` is all that the job wrote. That is sure only of one simple command: of several, some may have run.
    """
    if code not in FORK_CODES or len(commands) != 1 or not _SIMPLE.fullmatch(commands[0].strip()):
        return False
    lines = output.decode(errors="replace").splitlines()
    return bool(lines) and all(_NO_FORK.fullmatch(line) for line in lines)
