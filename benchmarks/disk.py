"""What the disk under the measured daemons costs; every sub-experiment makes about ten files and one flush."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

_TIMES = 200


def cost_of_file(directory: Path) -> float:
    """Seconds to make a file of 100 bytes in `directory`; the median."""

    def make(number: int) -> None:
        fd = os.open(directory / f"cost-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"x" * 100)
        os.close(fd)

    try:
        return _median(make, _TIMES)
    finally:
        for number in range(_TIMES):
            os.unlink(directory / f"cost-{number}")


def cost_of_flush(directory: Path) -> float:
    """Seconds for an fdatasync of 4 KiB that were appended; the median."""
    fd = os.open(directory / "cost", os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def flush(_: int) -> None:
        os.write(fd, bytes(4096))
        os.fdatasync(fd)

    try:
        return _median(flush, _TIMES // 10)
    finally:
        os.close(fd)
        os.unlink(directory / "cost")


def _median(action: Callable[[int], None], times: int) -> float:
    spent = []
    for number in range(times):
        begun = time.perf_counter()
        action(number)
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent)
