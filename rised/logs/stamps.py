"""Timestamps for byte ranges of a log: the side index `<log>.times`.

It consists of 16-byte records, little-endian: the size of the log when growth was seen, and the time of that in
milliseconds since the epoch. The record (120, t) after (100, s) says that bytes 100 to 119 appeared at t. So the last
record says how much of the log has been stamped, also after a restart of the daemon.

Sizes and times rise from record to record. When a job cuts its log short, the index starts anew. An index that is
missing, that ends in half a record, or that is behind its log costs precision, never a line: bytes without a record get
the log file's own modification time.
"""

import os
import struct
from array import array
from bisect import bisect_left, bisect_right
from contextlib import suppress
from io import FileIO
from typing import NamedTuple

SUFFIX = ".times"
RECORD = struct.Struct("<QQ")
_BLOCK = 4096
"""Records that are held in memory at once: 64 KiB, whatever the size of the index."""


class Stamp(NamedTuple):
    """The bytes of the log before `end`, without those of earlier stamps, appeared at `time_ms`."""

    end: int
    time_ms: int


def encode(stamp: Stamp) -> bytes:
    """The record in the index for `stamp`."""
    return RECORD.pack(*stamp)


def decode(data: bytes) -> list[Stamp]:
    """The stamps in `data`; half a record at its end is left out."""
    whole = len(data) - len(data) % RECORD.size
    return [Stamp(*fields) for fields in RECORD.iter_unpack(data[:whole])]


def append(log: str, stamp: Stamp, *, anew: bool = False) -> None:
    """Append `stamp` to the index of `log`, which is made if it does not exist; `anew` empties it first.

    Raises `OSError`, such as ENOSPC. Then the index is as it was, or ends in half a record, which the next `append`
    removes.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if anew else 0)
    with open(os.open(log + SUFFIX, flags, 0o600), "ab", 0) as index:
        size = os.fstat(index.fileno()).st_size
        if size % RECORD.size:
            index.truncate(size - size % RECORD.size)
        index.write(encode(stamp))


def last(log: str) -> Stamp | None:
    """The last stamp of `log`; None without one."""
    with suppress(OSError), open(log + SUFFIX, "rb", 0) as index:
        count = _count(index)
        return _record(index, count - 1) if count else None
    return None


def offset_since(log: str, time_ms: int) -> int:
    """The offset from which on all bytes appeared at `time_ms` or later, or have no stamp."""
    with suppress(OSError), open(log + SUFFIX, "rb", 0) as index:
        first = bisect_left(range(_count(index)), time_ms, key=lambda i: _record(index, i).time_ms)
        return _record(index, first - 1).end if first else 0
    return 0


class Times:
    """Looks up times in the index of one log. Rising offsets are fastest. No file is kept open."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._first = 0
        self._ends = array("Q")
        self._times = array("Q")

    def at(self, offset: int) -> Stamp | None:
        """The stamp of the byte at `offset`; None where it has none (yet)."""
        if not self._ends or not self._first <= offset < self._ends[-1]:
            self._load(offset)
        i = bisect_right(self._ends, offset)
        return Stamp(self._ends[i], self._times[i]) if i < len(self._ends) else None

    def _load(self, offset: int) -> None:
        with suppress(OSError), open(self._log + SUFFIX, "rb", 0) as index:
            count = _count(index)
            first = bisect_right(range(count), offset, key=lambda i: _record(index, i).end)
            stamps = decode(os.pread(index.fileno(), _BLOCK * RECORD.size, first * RECORD.size))
            self._first = offset
            self._ends = array("Q", (stamp.end for stamp in stamps))
            self._times = array("Q", (stamp.time_ms for stamp in stamps))


def _count(index: FileIO) -> int:
    return os.fstat(index.fileno()).st_size // RECORD.size


def _record(index: FileIO, number: int) -> Stamp:
    """Record `number`; one later than all others where the index was cut short meanwhile."""
    data = os.pread(index.fileno(), RECORD.size, number * RECORD.size)
    return Stamp(*RECORD.unpack(data)) if len(data) == RECORD.size else Stamp(2**64 - 1, 2**64 - 1)
