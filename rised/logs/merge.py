"""The output of many attempts as one, in the order in which it appeared.

Attempts come in the order of their start. Each is opened only when the merged output reaches its
start, and forgotten when it has ended and is told, so the output of a set of any size passes
through little memory.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count

from rised.logs.read import CHUNK, Line, LogLines
from rised.logs.source import Attempt
from riseml_proto.messages import LineEntry, PartialEntry

BATCH_ENTRIES = 500
BATCH_BYTES = 65536
_BUFFERS = 8 * 1024 * 1024
"""Bytes that all attempts read at one time may hold together, where 16 KiB each allow it."""
_LINES_AT_ONCE = 20_000
"""Lines looked at for one batch, those that are left out included."""
_PARTIAL = 4096
"""Bytes of an unfinished line that are told."""

_EPOCH = datetime.fromtimestamp(0, UTC)


def moment(time_ms: int) -> datetime:
    """The time that is `time_ms` milliseconds after the epoch, exactly."""
    return _EPOCH + timedelta(milliseconds=time_ms)


class Source:
    """One attempt's output. `ended` says that nothing more will be written to its log."""

    def __init__(self, attempt: Attempt, lines: LogLines, *, ended: bool) -> None:
        self.attempt = attempt
        self.ended = ended
        self.line: Line | None = None
        self._lines = lines
        self._job = attempt.job_id
        self._number = attempt.attempt
        self._moment = (0, _EPOCH)
        self._partial = b""

    def advance(self, chunk: int) -> Line | None:
        """Go to the next line."""
        self.line = self._lines.next(final=self.ended, chunk=chunk)
        if self.line is not None:
            self._partial = b""
        return self.line

    def grown(self) -> bool:
        """Whether there may be a line where there was none."""
        return self._lines.grown()

    def entry(self, line: Line) -> LineEntry:
        """What is sent for `line`."""
        return LineEntry(
            job=self._job,
            attempt=self._number,
            time=self._at(line.time_ms),
            text=line.text.decode("utf-8", "replace"),
            end=line.end,
        )

    @property
    def partial_changed(self) -> bool:
        """Whether the line that is being written has changed since `take_partial`."""
        return self._lines.partial not in (b"", self._partial)

    def take_partial(self) -> PartialEntry:
        """What is sent for the line that is being written: of it, what a terminal would show."""
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
            self._moment = (time_ms, moment(time_ms))
        return self._moment[1]


class Merge:
    """Merges the output of the attempts that are added to it, without its first `skip` lines."""

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._sources: dict[str, Source] = {}
        self._upcoming: deque[Source] = deque()  # not looked at yet, by start
        self._ready: list[
            tuple[int, int, Source]
        ] = []  # a heap of those that have a line, by its time
        self._idle: dict[str, Source] = {}  # running, all told
        self._numbers = count()

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt.key in self._sources

    @property
    def waiting(self) -> bool:
        """Whether an attempt was added that has not been looked at yet."""
        return bool(self._upcoming)

    @property
    def running(self) -> list[Attempt]:
        """The attempts that have not been told to their end."""
        return [source.attempt for source in self._sources.values()]

    @property
    def partials_changed(self) -> bool:
        """Whether `take_partials` has something new."""
        return any(source.partial_changed for source in self._idle.values())

    def take_partials(self) -> list[PartialEntry]:
        """The lines that jobs are writing, as far as they changed since they were last taken."""
        return [source.take_partial() for source in self._idle.values() if source.partial_changed]

    def add(self, source: Source) -> None:
        """Take `source` in, after those that started earlier."""
        self._sources[source.attempt.key] = source
        self._upcoming.append(source)

    def refresh(self) -> None:
        """Look whether attempts that were all told have written something new."""
        for source in [source for source in self._idle.values() if source.grown()]:
            self._go_on(source)

    def take(self, until_ms: float, *, more: bool = False) -> tuple[list[LineEntry], bool]:
        """The next batch of what appeared before `until_ms`, and whether that was all of it.

        `more`: further attempts are to be added, so stop where all of these have been looked at.
        """
        batch = _Batch(self._skip)
        while not batch.full:
            self._open(until_ms)
            if not self._ready or self._ready[0][0] >= until_ms or (more and not self._upcoming):
                break
            source = heapq.heappop(self._ready)[2]
            # Runs of lines of one source are common: leave the heap alone within one.
            bound = min(until_ms, self._ready[0][0] if self._ready else until_ms)
            if self._upcoming:
                bound = min(bound, self._upcoming[0].attempt.started_ms)
            batch.take_run(source, bound, self._chunk())
            self._place(source)
        self._skip = batch.skip
        return batch.entries, not batch.full

    def take_rest(self, attempt: Attempt) -> list[LineEntry]:
        """The next batch of what is left of `attempt`, which has ended; empty once all is told."""
        batch = _Batch(self._skip)
        source = self._sources.get(attempt.key)
        if source is None:
            return []
        source.ended = True
        self._idle.pop(attempt.key, None)
        if source in self._upcoming:
            self._upcoming.remove(source)
        if source.line is not None:
            self._ready = [entry for entry in self._ready if entry[2] is not source]
            heapq.heapify(self._ready)
        else:
            source.advance(CHUNK)
        while source.line is not None and not batch.entries:
            batch.take_run(source, math.inf, CHUNK)
            batch.taken = 0
        if source.line is None:
            del self._sources[attempt.key]
        else:
            heapq.heappush(self._ready, (source.line.time_ms, next(self._numbers), source))
        self._skip = batch.skip
        return batch.entries

    def _chunk(self) -> int:
        return max(16384, min(CHUNK, _BUFFERS // (len(self._ready) + 1)))

    def _open(self, until_ms: float) -> None:
        """Look at the attempts whose start is next."""
        while self._upcoming:
            started_ms = self._upcoming[0].attempt.started_ms
            if started_ms >= until_ms or (self._ready and started_ms > self._ready[0][0]):
                return
            self._go_on(self._upcoming.popleft())

    def _go_on(self, source: Source) -> None:
        source.advance(self._chunk())
        self._place(source)

    def _place(self, source: Source) -> None:
        """Put `source` where it belongs after it went on to its next line."""
        key = source.attempt.key
        self._idle.pop(key, None)
        if source.line is not None:
            heapq.heappush(self._ready, (source.line.time_ms, next(self._numbers), source))
        elif source.ended:
            del self._sources[key]
        else:
            self._idle[key] = source


class _Batch:
    """Entries up to a batch's limits; `skip` lines are left out first."""

    def __init__(self, skip: int) -> None:
        self.entries: list[LineEntry] = []
        self.skip = skip
        self.taken = 0
        self._size = 0

    @property
    def full(self) -> bool:
        return (
            len(self.entries) >= BATCH_ENTRIES
            or self._size >= BATCH_BYTES
            or self.taken >= _LINES_AT_ONCE
        )

    def take_run(self, source: Source, bound_ms: float, chunk: int) -> None:
        """Take `source`'s line, and those after it from before `bound_ms`, while there is room."""
        line = source.line
        while line is not None:
            self.taken += 1
            if self.skip:
                self.skip -= 1
            else:
                self.entries.append(source.entry(line))
                self._size += len(line.text)
            line = source.advance(chunk)
            if self.full or (line is not None and line.time_ms >= bound_ms):
                return


def count_lines(sources: Iterable[Source]) -> int:
    """How many lines all of `sources` have."""
    total = 0
    for source in sources:
        while source.advance(CHUNK) is not None:
            total += 1
    return total
