"""What a stream reads of the attempts' logs: which of them, from where, in which order. It sends nothing.

Logs are read in another thread as long as there is more than one batch to read, and in the daemon's own thread once a
stream is up to date: what was just written is short, and in memory.
"""

from collections.abc import Sequence
from functools import partial

import trio

from rised.logs.cursor import Cursor, since_ms
from rised.logs.merge import BATCH_LINES, MergedLog, MergedLogs
from rised.logs.read import CHUNK, LogLines, size_of, tail_offset
from rised.logs.source import Attempt, LogSource
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import LineEntry, LogRequest


class Output:
    """The output part of one stream. It moves the stream's cursor with each batch that it gives."""

    def __init__(
        self, request: LogRequest, target: CanonicalId, history: LogSource, page: int
    ) -> None:
        """`page`: the past attempts that are asked for at once."""
        self.cursor = Cursor.of(request)
        self.merged = MergedLogs(self.cursor)
        self._request = request
        self._since_ms = since_ms(request)
        self._target = target
        self._history = history
        self._page = page
        self._behind = True

    async def prepare(self) -> None:
        """Begin with the past attempts; find out how many of their lines `tail` leaves out."""
        cursor, tail = self.cursor, self._request.tail
        cursor.rewind()
        if tail is None or self._request.after:
            return
        lines = 0
        while cursor.more_pages:
            lines += await trio.to_thread.run_sync(self._count, self._next_page())
        cursor.skip = max(0, lines - tail)
        cursor.rewind()

    async def take(self, until_ms: float) -> tuple[list[LineEntry], bool]:
        """Read the next batch of what appeared before `until_ms`; also return whether that was all of it."""
        cursor = self.cursor
        if cursor.more_pages and not self.merged.has_upcoming:
            for log in await trio.to_thread.run_sync(self._open, self._next_page()):
                self.merged.add(log)
        if self._behind:
            lines, done = await trio.to_thread.run_sync(self._take, until_ms)
        else:
            lines, done = self._take(until_ms)
        self._behind = not done
        return lines, done and (self.merged.has_upcoming or not cursor.more_pages)

    async def take_rest(self, attempt: Attempt) -> list[LineEntry]:
        """Read the next batch of what is left of `attempt`, which has ended."""
        if self._behind:
            lines = await trio.to_thread.run_sync(self.merged.take_rest, attempt)
        else:
            lines = self.merged.take_rest(attempt)
        self._behind = len(lines) >= BATCH_LINES
        return lines

    def begin(self, attempt: Attempt) -> None:
        """Read the log of `attempt` from now on."""
        for log in self._open([attempt]):
            self.merged.add(log)
            if self.cursor.is_past(attempt):
                self.cursor.early.add(attempt.key)

    def _take(self, until_ms: float) -> tuple[list[LineEntry], bool]:
        return self.merged.take(until_ms, more=self.cursor.more_pages)

    def _count(self, attempts: Sequence[Attempt]) -> int:
        logs = self._open(attempts, counting=True)
        return sum(1 for log in logs for _ in iter(partial(log.advance, CHUNK), None))

    def _next_page(self) -> list[Attempt]:
        page = self._history.attempts(self._target, self.cursor.page_after, self._page)
        return self.cursor.turn_page(page, self._page)

    def _open(self, attempts: Sequence[Attempt], *, counting: bool = False) -> list[MergedLog]:
        """The logs of `attempts`, without those that are seen already. `counting`: as they are now."""
        return [
            self._log(attempt, counting=counting)
            for attempt in attempts
            if not self.cursor.is_seen(attempt, self._request)
        ]

    def _log(self, attempt: Attempt, *, counting: bool) -> MergedLog:
        cursor, tail = self.cursor, self._request.tail
        ended = cursor.has_ended(attempt)
        offset = cursor.offsets.get(attempt.key)
        if offset is None:
            offset = 0
            if tail is not None and cursor.is_past(attempt):
                offset = tail_offset(attempt.log, tail)
                if not ended:  # its last lines are those of now, however much it grows
                    cursor.offsets[attempt.key] = offset
        until_end = ended or (self._request.follow and not counting)
        stop = None if until_end else size_of(attempt.log)
        lines = LogLines(attempt.log, offset, self._since_ms, stop)
        return MergedLog(attempt, lines, offset=offset, ended=ended)
