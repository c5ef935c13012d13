"""Tells states and output of an experiment, a member or a job as one stream of entries.

The law, for every job in it:

    RUNNING  →  all output of the attempt, each line once  →  the state that ends the attempt

States come in the order of their `seq`. Output of jobs that run at once comes by time, as far as it
is known when it is sent. A stream begins with its head; then come the states at submission and
everything since (`opening`), or the states as they are and the output so far; `follow` goes on
until all has ended.

A stream that was cut goes on with the highest `seq` and the offset of each job that were seen. An
attempt whose offset is not named begins at its start, except where its end must have been seen:
with `opening`, where an end is told only after its output, and with `tail`, which left most of it
out.

The reader sets the pace: one batch is in hand, and nothing is read while it is being sent.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from rised.logs.merge import BATCH_BYTES, BATCH_ENTRIES, Merge, Source, count_lines, moment
from rised.logs.read import LogLines, size_of, tail_offset
from rised.logs.source import Attempt, Event, LogSource
from rised.subscriptions import Subscription
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import Entry, LineEntry, LogRequest, StateEntry

_PAGE = 1000
"""Events, attempts and known states asked for at once."""
_PARTIAL_PAUSE = 0.1
"""Seconds between two looks at lines that are being written."""

Send = Callable[[list[Entry]], Awaitable[None]]


async def stream(
    request: LogRequest,
    target: CanonicalId,
    journal: LogSource,
    subscription: Subscription,
    send: Send,
    *,
    page: int = _PAGE,
) -> None:
    """Send what `request` asks for about `target`, in batches, and return after its `EndEntry`.

    `bell` rings when a log of the experiment has grown or its journal has got an event, and has
    been listened to since before this call.
    """
    outbox = _Outbox(send)
    await outbox.put([journal.head(target)])
    seq = request.after
    if not seq:
        if request.opening:
            await outbox.put(journal.opening(target))
        else:
            known = journal.known(target, page)
            seq = max((entry.seq for entry in known if isinstance(entry, StateEntry)), default=0)
            await outbox.put(known)
    output = _Output(request, target, journal, seq, page)
    await output.prepare()
    partials_due = 0.0
    while True:
        events = journal.events(target, seq, page)
        output.merge.refresh()
        for event in events:
            await _tell(event, output, outbox)
            seq = event.seq
        if events:
            await trio.lowlevel.checkpoint()
            continue
        # Nothing was awaited since the events were read: if it has ended now, they were the last.
        standing = journal.standing(target)
        await output.drain(math.inf, outbox)
        if standing.state.ended or not request.follow:
            if standing.state.ended:
                for attempt in output.merge.running:
                    await output.finish(attempt, outbox)
            await outbox.put([standing])
            await outbox.flush()
            return
        if output.merge.partials_changed and trio.current_time() >= partials_due:
            await outbox.put(output.merge.take_partials())
            partials_due = trio.current_time() + _PARTIAL_PAUSE
        await outbox.flush()
        with trio.move_on_at(partials_due if output.merge.partials_changed else math.inf):
            await subscription.wait()


async def _tell(event: Event, output: "_Output", outbox: "_Outbox") -> None:
    attempt = event.attempt
    await output.drain(event.time_ms, outbox)
    ends = attempt is not None and attempt.ended == event.seq
    if attempt is not None and ends:
        await output.finish(attempt, outbox)
    await outbox.put(
        [
            StateEntry(
                id=event.id,
                time=moment(event.time_ms),
                state=event.state,
                seq=event.seq,
                reason=event.reason,
                message=event.message,
                exit_code=event.exit_code,
            )
        ]
    )
    if attempt is not None and attempt.began == event.seq and not ends:
        output.begin(attempt)


class _Output:
    """The output part of a stream that has told the states up to `seq`."""

    def __init__(
        self, request: LogRequest, target: CanonicalId, journal: LogSource, seq: int, page: int
    ) -> None:
        self.merge = Merge()
        self._request = request
        self._since_ms = None if request.since is None else int(request.since.timestamp() * 1000)
        self._target = target
        self._journal = journal
        self._seq = seq
        self._page = page
        self._page_after = 0
        self._more = seq > 0
        self._tails: dict[str, int] = {}
        self._ahead: set[str] = set()  # told before their page came
        self._behind = True

    async def prepare(self) -> None:
        """Find out how many lines `tail` leaves out."""
        if self._request.tail is not None and not self._request.after:
            lines = 0
            while self._more:
                page = self._next_page()
                lines += await trio.to_thread.run_sync(self._count, page)
            self.merge = Merge(skip=max(0, lines - self._request.tail))
            self._page_after = 0
            self._more = self._seq > 0

    async def drain(self, until_ms: float, outbox: "_Outbox") -> None:
        """Tell all output that appeared before `until_ms`."""
        done = False
        while not done or self._more:
            if self._more and not self.merge.waiting:
                page = self._next_page()
                for source in await trio.to_thread.run_sync(self._sources, page):
                    self.merge.add(source)
            # What was just written is in memory and short; a backlog is neither.
            if self._behind:
                lines, done = await trio.to_thread.run_sync(self._take, until_ms)
            else:
                lines, done = self._take(until_ms)
            await outbox.put(lines)
            self._behind = not done
            if done and self.merge.waiting:
                return

    async def finish(self, attempt: Attempt, outbox: "_Outbox") -> None:
        """Tell what is left of `attempt`, which has ended."""
        if attempt not in self.merge:
            self.begin(attempt)
        while attempt in self.merge:
            if self._behind:
                lines = await trio.to_thread.run_sync(self.merge.take_rest, attempt)
            else:
                lines = self.merge.take_rest(attempt)
            self._behind = len(lines) >= BATCH_ENTRIES
            await outbox.put(lines)

    def begin(self, attempt: Attempt) -> None:
        """Tell the output of `attempt` from now on."""
        for source in self._sources([attempt]):
            self.merge.add(source)
            if attempt.began <= self._seq:
                self._ahead.add(attempt.key)

    def _take(self, until_ms: float) -> tuple[list[LineEntry], bool]:
        return self.merge.take(until_ms, more=self._more)

    def _count(self, attempts: Sequence[Attempt]) -> int:
        return count_lines(self._sources(attempts, counting=True))

    def _next_page(self) -> list[Attempt]:
        page = self._journal.attempts(self._target, self._page_after, self._page)
        self._more = len(page) == self._page and page[-1].began < self._seq
        self._page_after = page[-1].began if page else 0
        return [attempt for attempt in page if attempt.began <= self._seq]

    def _sources(self, attempts: Sequence[Attempt], *, counting: bool = False) -> list[Source]:
        found = (self._source(attempt, counting=counting) for attempt in attempts)
        return [source for source in found if source is not None]

    def _source(self, attempt: Attempt, *, counting: bool = False) -> Source | None:
        """What is left to tell of `attempt`; None where that is nothing. `counting`: only what is there now."""
        request = self._request
        past = attempt.began <= self._seq
        ended = attempt.ended is not None and attempt.ended <= self._seq
        offset = request.offsets.get(attempt.key)
        if attempt.key in self._ahead:
            return None
        if (
            ended
            and offset is None
            and request.after
            and (request.opening or request.tail is not None)
        ):
            return None
        if ended and self._since_ms is not None and (attempt.ended_ms or math.inf) < self._since_ms:
            return None
        if offset is None:
            offset = self._tail_offset(attempt, ended=ended) if past else 0
        stop = None if ended or (request.follow and not counting) else size_of(attempt.log)
        lines = LogLines(attempt.log, offset, self._since_ms, stop)
        return Source(attempt, lines, ended=ended)

    def _tail_offset(self, attempt: Attempt, *, ended: bool) -> int:
        """Where its last lines begin: of a log that grows, always those that were the last at first."""
        if self._request.tail is None:
            return 0
        if attempt.key in self._tails:
            return self._tails[attempt.key]
        offset = tail_offset(attempt.log, self._request.tail)
        if not ended:
            self._tails[attempt.key] = offset
        return offset


class _Outbox:
    """Gathers entries into batches."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._entries: list[Entry] = []
        self._size = 0

    async def put(self, entries: Sequence[Entry]) -> None:
        """Add `entries`, and send what makes a batch."""
        self._entries.extend(entries)
        self._size += sum(len(entry.text) for entry in entries if isinstance(entry, LineEntry))
        if len(self._entries) >= BATCH_ENTRIES or self._size >= BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Send what there is."""
        entries, self._entries, self._size = self._entries, [], 0
        for at in range(0, len(entries), BATCH_ENTRIES):
            await self._send(entries[at : at + BATCH_ENTRIES])
