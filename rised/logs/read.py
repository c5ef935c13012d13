"""A log's lines with their times, read from its file.

No file is kept open, because a set can have more logs than a process may have files.
"""

import os
from contextlib import suppress

from rised.linux.files import opened_regular, stat_regular
from rised.logs.lines import LIMIT, Line, Splitter
from rised.logs.stamps import Times, offset_since

CHUNK = 262144
"""Bytes that are read at once."""


class LogLines:
    """The lines of one log, as they appear.

    A log that does not exist counts as empty. A log that was cut short is read again from its start.
    """

    def __init__(
        self, log: str, offset: int = 0, since_ms: int | None = None, stop: int | None = None
    ) -> None:
        """Begin at `offset`, leave out lines from before `since_ms`, and read no byte from `stop` on."""
        self._log = log
        self._stop = stop
        self._since_ms = since_ms
        self._skip = False
        if since_ms is not None:
            first = offset_since(log, since_ms)
            if first > offset:
                # The line at `first` began earlier, unless another one ends right before it.
                offset = first - 1
                self._skip = True
        self._reset(offset)
        self._time_ms = 0

    @property
    def partial(self) -> bytes:
        """The line that is being written, as far as it has been read."""
        return b"" if self._skip else self._splitter.partial

    @property
    def partial_time_ms(self) -> int:
        """The time at which the line that is being written began to appear."""
        return self._time_of(self._splitter.start)

    def grown(self) -> bool:
        """Whether the log has bytes that have not been read."""
        status = stat_regular(self._log)
        return status is not None and status.st_size != self._splitter.end

    def next(self, *, final: bool = False, chunk: int = CHUNK) -> Line | None:
        """Read the next line, `chunk` bytes at a time; None if there is none (yet).

        `final`: the job has ended, so that the rest of the log is a line, too.
        """
        while True:
            start = self._splitter.start
            line = self._splitter.next()
            if line is None:
                if self._read(chunk):
                    continue
                line = self._splitter.next(final=True) if final else None
                if line is None:
                    return None
            end, text, more = line
            if self._skip:
                self._skip = more
                continue
            time_ms = self._time_of(start)
            if self._since_ms is None or time_ms >= self._since_ms:
                return Line(start, end, time_ms, text, more)

    def _reset(self, offset: int) -> None:
        self._splitter = Splitter(offset)
        self._times = Times(self._log)
        self._until = -1  # bytes before it appeared at _time_ms
        self._mtime_ms = 0

    def _read(self, size: int) -> bool:
        with suppress(OSError), opened_regular(self._log) as fd:
            status = os.fstat(fd)
            if status.st_size < self._splitter.end:
                self._reset(0)
                self._skip = False
            if self._stop is not None:
                size = max(0, min(size, self._stop - self._splitter.end))
            data = os.pread(fd, size, self._splitter.end)
            self._splitter.feed(data)
            self._mtime_ms = status.st_mtime_ns // 1_000_000
            return bool(data)
        return False

    def _time_of(self, offset: int) -> int:
        """The time at which the byte at `offset` appeared; never earlier than the time returned before."""
        if offset >= self._until:
            stamp = self._times.at(offset)
            if stamp is None:
                self._until = self._splitter.end
                time_ms = self._mtime_ms
            else:
                self._until, time_ms = stamp
            self._time_ms = max(self._time_ms, time_ms)
        return self._time_ms


def tail_offset(log: str, count: int) -> int:
    """An offset from which on `log` has at least its last `count` lines, and few more.

    A line longer than `LIMIT` counts as its pieces, which then begin at other bytes.
    """
    with suppress(OSError), opened_regular(log) as fd:
        end = os.fstat(fd).st_size
        # One newline more than lines: the last line may lack its own.
        missing, last = count + 1, end
        while end:
            begin = max(0, end - LIMIT)
            data = os.pread(fd, end - begin, begin)
            at = len(data)
            while (at := data.rfind(b"\n", 0, at)) >= 0:
                missing -= 1
                last = begin + at
                if not missing:
                    return last + 1
            if last - begin >= LIMIT:
                missing -= (last - begin) // LIMIT
                last -= (last - begin) // LIMIT * LIMIT
                if missing <= 0:
                    return _character(fd, last)
            end = begin
    return 0


def _character(fd: int, offset: int) -> int:
    """The start of the first UTF-8 character at or after `offset`."""
    data = os.pread(fd, 3, offset)
    return offset + next((i for i, byte in enumerate(data) if byte & 0xC0 != 0x80), 0)


def size_of(log: str) -> int:
    """Bytes in `log`; 0 where it does not exist."""
    status = stat_regular(log)
    return status.st_size if status else 0
