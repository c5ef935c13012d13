"""A log as lines: where they begin and end, when they appeared, and what stands in them.

    line     ends with \\n, or \\r\\n; a \\r alone is part of its text, like all else a terminal
    acts on
    piece    of a line longer than 64 KiB; told like a line, so that no line costs more memory
    partial  what follows the last line's end; a line too once its job has ended

Lines depend on the bytes alone, never on how they were read, so whoever goes on at a line's `end`
gets what they would have got anyway. No file is kept open: a set can have more logs than a process
may have files.
"""

import os
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from rised.logs.stamps import Times, offset_since
from rised.subscriptions import Subscription

LIMIT = 65536
"""Bytes of text in a line; longer ones are told in pieces."""
CHUNK = 262144
"""Bytes read at once."""


class Line(NamedTuple):
    """A line, or a piece of one: bytes `start` to `end` of its log; `text` lacks the line end."""

    start: int
    end: int
    time_ms: int
    text: bytes


class Splitter:
    """Cuts bytes that come in any portions into lines; the first of them has this `offset`."""

    def __init__(self, offset: int = 0) -> None:
        self._data = b""
        self._at = 0
        self._offset = offset

    @property
    def start(self) -> int:
        """The offset at which the next line begins."""
        return self._offset + self._at

    @property
    def end(self) -> int:
        """The offset of the next byte to come."""
        return self._offset + len(self._data)

    @property
    def partial(self) -> bytes:
        """What is not part of a line yet, once `next` returned None."""
        return self._data[self._at :]

    def feed(self, data: bytes) -> None:
        """Take the bytes that follow."""
        self._data = self._data[self._at :] + data
        self._offset += self._at
        self._at = 0

    def next(self, *, final: bool = False) -> tuple[int, bytes] | None:
        """End and text of the next line, None if there is none yet; `final`: no bytes will come."""
        data, at = self._data, self._at
        # A text of exactly LIMIT bytes may be followed by \r\n.
        newline = data.find(b"\n", at, at + LIMIT + 2)
        if newline >= 0:
            stop = newline - 1 if newline > at and data[newline - 1] == 13 else newline
            if stop - at <= LIMIT:
                self._at = newline + 1
                return self.start, data[at:stop]
        rest = len(data) - at
        if rest >= LIMIT + 2 or newline >= 0 or (final and rest > LIMIT):
            self._at = _cut(data, at)
        elif final and rest:
            self._at = len(data)
        else:
            return None
        return self.start, data[at : self._at]


def _cut(data: bytes, at: int) -> int:
    """Where the first piece of the long line at `at` ends: not after a \\r, nor in a character."""
    cut = at + LIMIT
    if data[cut - 1] == 13:
        return cut - 1
    for back in range(4):
        if data[cut - back] & 0xC0 != 0x80:
            return cut - back if data[cut - back] >= 0xC0 else cut
    return cut


class LogLines:
    """The lines of one log from `offset` on, as they come, without those from before `since_ms`.

    Nothing from the offset `stop` on is read. A log that is not there is empty. One that was cut
    short is read again from its start.
    """

    def __init__(
        self, log: str, offset: int = 0, since_ms: int | None = None, stop: int | None = None
    ) -> None:
        self._log = log
        self._stop = stop
        self._since_ms = since_ms
        self._skip = False
        if since_ms is not None:
            found = offset_since(log, since_ms)
            if found > offset:
                # The line at `found` began earlier unless another one ends right before it.
                offset = found - 1
                self._skip = True
        self._reset(offset)
        self._time_ms = 0

    @property
    def partial(self) -> bytes:
        """The line that is being written, as far as it has been read."""
        return b"" if self._skip else self._splitter.partial

    @property
    def partial_time_ms(self) -> int:
        """When the line that is being written began to appear."""
        return self._time_of(self._splitter.start)

    def grown(self) -> bool:
        """Whether there is something to read that has not been read."""
        try:
            return os.stat(self._log).st_size != self._splitter.end
        except OSError:
            return False

    def next(self, *, final: bool = False, chunk: int = CHUNK) -> Line | None:
        """The next line, reading `chunk` bytes at a time; None if there is none (yet).

        `final` says that the job has ended, so that what is left at the end of the log is a line.
        """
        while True:
            start = self._splitter.start
            found = self._splitter.next()
            if found is None:
                if self._read(chunk):
                    continue
                found = self._splitter.next(final=True) if final else None
                if found is None:
                    return None
            end, text = found
            if self._skip:
                self._skip = False
                continue
            time_ms = self._time_of(start)
            if self._since_ms is None or time_ms >= self._since_ms:
                return Line(start, end, time_ms, text)

    def _reset(self, offset: int) -> None:
        self._splitter = Splitter(offset)
        self._times = Times(self._log)
        self._until = -1  # bytes before it appeared at _time_ms
        self._mtime_ms = 0

    def _read(self, size: int) -> bool:
        try:
            fd = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            found = os.fstat(fd)
            if found.st_size < self._splitter.end:
                self._reset(0)
                self._skip = False
            if self._stop is not None:
                size = max(0, min(size, self._stop - self._splitter.end))
            data = os.pread(fd, size, self._splitter.end)
        finally:
            os.close(fd)
        self._splitter.feed(data)
        self._mtime_ms = found.st_mtime_ns // 1_000_000
        return bool(data)

    def _time_of(self, offset: int) -> int:
        """When the byte at `offset` appeared; never before the one asked for last."""
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
    """An offset from which on `log` has its last `count` lines, and perhaps some more.

    A line longer than `LIMIT` counts as its pieces, which then begin elsewhere.
    """
    try:
        fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
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
    finally:
        os.close(fd)


def _character(fd: int, offset: int) -> int:
    """The first UTF-8 character's start at or after `offset`."""
    data = os.pread(fd, 3, offset)
    return offset + next((i for i, byte in enumerate(data) if byte & 0xC0 != 0x80), 0)


def size_of(log: str) -> int:
    """Bytes in `log`; 0 where there is none."""
    try:
        return os.stat(log).st_size
    except OSError:
        return 0


async def raw(
    log: str,
    *,
    follow: bool,
    ended: Callable[[], bool],
    subscription: Subscription,
    send_bytes: Callable[[bytes], Awaitable[None]],
) -> None:
    """Send the bytes of `log` as they are; with `follow`, until the job has `ended`."""
    offset = 0
    while True:
        # Asked before reading, so that what was written last is read.
        last = not follow or ended()
        size = size_of(log)
        if size < offset:
            offset = 0
        while offset < size:
            data = await trio.to_thread.run_sync(_bytes, log, offset, size)
            if not data:
                break
            await send_bytes(data)
            offset += len(data)
        if last:
            return
        await subscription.wait()


def _bytes(log: str, offset: int, stop: int) -> bytes:
    try:
        fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, min(CHUNK, stop - offset), offset)
    finally:
        os.close(fd)
