"""Where and how large a measurement is, and the arithmetic that all of them share."""

import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path


class MeasurementFailed(Exception):
    """Something that was to be measured did not work at all; the text says what."""


class Ground:
    """A directory that is removed in the end, and the size of what is done in it."""

    def __init__(self, directory: Path, *, quick: bool) -> None:
        self._directory = directory
        self._quick = quick

    def size(self, full: int, quick: int) -> int:
        """`quick` with --quick, else `full`."""
        return quick if self._quick else full

    def make_directory(self) -> Path:
        """A new empty directory."""
        return Path(tempfile.mkdtemp(dir=self._directory))


def median(values: Sequence[float]) -> float:
    """The value in the middle."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The value that 95 in 100 do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]
