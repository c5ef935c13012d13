"""The output of many attempts as one, in the order in which it appeared.

Attempts are added in the order of their start. A log is first read when the merged output reaches the start of its
attempt. It is dropped when the attempt has ended and all of it was taken. So the output of a set of any size needs
little memory.
"""

import heapq
import math
from collections import deque
from datetime import datetime
from itertools import count

from rised.clock import EPOCH, to_datetime
from rised.logs.cursor import Cursor
from rised.logs.lines import Line
from rised.logs.read import CHUNK, LogLines
from rised.logs.source import Attempt
from riseml_proto.messages import LineEntry, PartialEntry

BATCH_LINES = 500
"""Lines that are read at once."""
BATCH_ENTRIES = 2 * BATCH_LINES
"""Entries that are sent at once: a batch of lines, which is not cut, and fewer that waited for it."""
BATCH_BYTES = 65536
_BUFFERS = 8 * 1024 * 1024
"""Bytes that all logs read at one time may hold together; but each log gets 16 KiB."""
_LINES_AT_ONCE = 20_000
"""Lines that are read for one batch, including those that are left out."""
_PARTIAL = 4096
"""Bytes that are sent of an unfinished line."""


class MergedLog:
    """One attempt's log among those that are merged, with one line of it in hand."""

    def __init__(self, attempt: Attempt, lines: LogLines, *, offset: int, ended: bool) -> None:
        """`lines` begin at `offset`. `ended`: nothing more will be written to the log."""
        self.attempt = attempt
        self.key = attempt.key
        self.offset = offset
        self.ended = ended
        self.line: Line | None = None
        self._lines = lines
        self._job = attempt.job_id
        self._number = attempt.attempt
        self._moment = (0, EPOCH)
        self._partial = b""

    def advance(self, chunk: int) -> Line | None:
        """Read the next line, `chunk` bytes at a time; None if there is none yet."""
        self.line = self._lines.next(final=self.ended, chunk=chunk)
        if self.line is not None:
            self._partial = b""
        return self.line

    def grown(self) -> bool:
        """Whether the log may have a line now where it had none."""
        return self._lines.grown()

    def entry(self, line: Line) -> LineEntry:
        """The message for `line`."""
        return LineEntry(
            job=self._job,
            attempt=self._number,
            time=self._at(line.time_ms),
            text=line.text.decode("utf-8", "replace"),
            end=line.end,
            more=line.more,
        )

    @property
    def partial_changed(self) -> bool:
        """Whether the line that is being written has changed since the last `take_partial`."""
        return self._lines.partial not in (b"", self._partial)

    def take_partial(self) -> PartialEntry:
        """The message for the line that is being written: what a terminal would show of it."""
        self._partial = self._lines.partial
        shown = self._partial[self._partial.rfind(b"\r", 0, -1) + 1 :][:_PARTIAL]
        return PartialEntry(
            job=self._job,
            attempt=self._number,
            time=self._at(self._lines.partial_time_ms),
            text=shown.decode("utf-8", "replace"),
        )

    def _at(self, time_ms: int) -> datetime:
        if self._moment[0] != time_ms:
            self._moment = (time_ms, to_datetime(time_ms))
        return self._moment[1]


class MergedLogs:
    """The logs that a stream reads at one time. It moves the stream's cursor with each batch that it gives.

    A log is in one of three states: upcoming (not looked at yet), ready (with a line in hand), idle (its attempt runs,
    and all that it has written was taken).
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._logs: dict[str, MergedLog] = {}
        self._upcoming: deque[MergedLog] = deque()  # by start
        self._ready: list[tuple[int, int, MergedLog]] = []  # a heap, by the time of the line
        self._idle: dict[str, MergedLog] = {}
        self._numbers = count()

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt.key in self._logs

    @property
    def has_upcoming(self) -> bool:
        """Whether a log was added that has not been looked at yet."""
        return bool(self._upcoming)

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts whose output was not taken to its end."""
        return [log.attempt for log in self._logs.values()]

    @property
    def partials_changed(self) -> bool:
        """Whether `take_partials` has something new."""
        return any(log.partial_changed for log in self._idle.values())

    def take_partials(self) -> list[PartialEntry]:
        """The lines that jobs are writing, if they changed since they were last taken."""
        return [log.take_partial() for log in self._idle.values() if log.partial_changed]

    def add(self, log: MergedLog) -> None:
        """Take `log` in. Its attempt must not have started earlier than those before."""
        self._logs[log.key] = log
        self._cursor.offsets[log.key] = log.offset
        self._upcoming.append(log)

    def refresh(self) -> None:
        """Look whether idle logs have grown."""
        for log in [log for log in self._idle.values() if log.grown()]:
            self._go_on(log)

    def take(self, until_ms: float, *, more: bool = False) -> tuple[list[LineEntry], bool]:
        """The next batch of what appeared before `until_ms`, and whether that was all of it.

        `more`: further logs will be added, so stop as soon as none is upcoming.
        """
        batch = _Batch(self._cursor.skip)
        while not batch.full:
            self._open(until_ms)
            if not self._ready or self._ready[0][0] >= until_ms or (more and not self._upcoming):
                break
            log = heapq.heappop(self._ready)[2]
            # Runs of lines of one log are common: leave the heap alone within one.
            bound = min(until_ms, self._ready[0][0] if self._ready else until_ms)
            if self._upcoming:
                bound = min(bound, self._upcoming[0].attempt.started_ms)
            batch.take_run(log, bound, self._chunk())
            self._sort_in(log)
        self._cursor.skip = batch.skip
        return batch.entries, not batch.full

    def take_rest(self, attempt: Attempt) -> list[LineEntry]:
        """The next batch of what is left of `attempt`, which has ended; empty when all was taken."""
        log = self._logs.get(attempt.key)
        if log is None:
            return []
        batch = _Batch(self._cursor.skip)
        log.ended = True
        if log in self._upcoming:
            self._upcoming.remove(log)
        if log.line is not None:
            self._ready = [entry for entry in self._ready if entry[2] is not log]
            heapq.heapify(self._ready)
        else:
            log.advance(CHUNK)
        while log.line is not None and not batch.entries:
            batch.take_run(log, math.inf, CHUNK)
            batch.taken = 0
        self._sort_in(log)
        self._cursor.skip = batch.skip
        return batch.entries

    def _chunk(self) -> int:
        return max(16384, min(CHUNK, _BUFFERS // (len(self._ready) + 1)))

    def _open(self, until_ms: float) -> None:
        """Look at the upcoming logs whose attempts start next."""
        while self._upcoming:
            started_ms = self._upcoming[0].attempt.started_ms
            if started_ms >= until_ms or (self._ready and started_ms > self._ready[0][0]):
                return
            self._go_on(self._upcoming.popleft())

    def _go_on(self, log: MergedLog) -> None:
        log.advance(self._chunk())
        self._sort_in(log)

    def _sort_in(self, log: MergedLog) -> None:
        """Make `log` ready or idle, or drop it, after its next line was read."""
        self._idle.pop(log.key, None)
        self._cursor.offsets[log.key] = log.offset
        if log.line is not None:
            heapq.heappush(self._ready, (log.line.time_ms, next(self._numbers), log))
        elif log.ended:
            del self._logs[log.key], self._cursor.offsets[log.key]
        else:
            self._idle[log.key] = log


class _Batch:
    """Entries up to the limits of a batch, after `skip` lines that are left out."""

    def __init__(self, skip: int) -> None:
        self.entries: list[LineEntry] = []
        self.skip = skip
        self.taken = 0
        self._size = 0

    @property
    def full(self) -> bool:
        return (
            len(self.entries) >= BATCH_LINES
            or self._size >= BATCH_BYTES
            or self.taken >= _LINES_AT_ONCE
        )

    def take_run(self, log: MergedLog, bound_ms: float, chunk: int) -> None:
        """Take the line that `log` has in hand and, while the batch is not full, those after it before `bound_ms`."""
        line = log.line
        while line is not None:
            self.taken += 1
            if self.skip:
                self.skip -= 1
            else:
                self.entries.append(log.entry(line))
                self._size += len(line.text)
            log.offset = line.end
            line = log.advance(chunk)
            if self.full or (line is not None and line.time_ms >= bound_ms):
                return
