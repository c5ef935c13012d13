"""States and output of an experiment, a member or a job as one stream of entries.

The law, for every job in it:

    RUNNING  →  all output of the attempt, each line once  →  the state that ends the attempt

States come in the order of their `seq`. Output of jobs that run at the same time is ordered by time, as far as it is
known when it is sent. A stream begins with its head. Then come the states at submission and all that happened since
(`opening`), or the states of now and the output so far. With `follow` it goes on until all has ended.

A client that was cut off says what it has seen: the highest `seq`, and the offset of each attempt. An attempt whose
offset it does not name begins at its start, unless the client must have seen its end: with `opening`, where an end is
sent only after the output, and with `tail`, which left most of the output out.

The reader sets the pace: one batch is in memory, and no log is read while it is being sent. Where the stream stands is
in its `Cursor`; `Output` reads; here entries are put in order and sent.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from rised.logs.merge import BATCH_BYTES, BATCH_ENTRIES, BATCH_LINES
from rised.logs.output import Output
from rised.logs.source import Attempt, Event, LogSource
from rised.subscriptions import Subscription
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import Entry, LineEntry, LogRequest, StateEntry

_PAGE = 1000
"""Events, attempts and known states that are asked for at once."""
_PARTIAL_PAUSE = 0.1
"""Seconds between two looks at lines that are being written."""

Send = Callable[[list[Entry]], Awaitable[None]]


class LogStream:
    """What a `LogRequest` about `target` gets."""

    def __init__(
        self, request: LogRequest, target: CanonicalId, history: LogSource, *, page: int = _PAGE
    ) -> None:
        """`page`: the events, attempts and known states that are asked for at once."""
        self._request = request
        self._target = target
        self._history = history
        self._page = page
        self._output = Output(request, target, history, page)
        self.cursor = self._output.cursor

    async def run(self, subscription: Subscription, send: Send) -> None:
        """Send the entries in batches; return after the `EndEntry`.

        `subscription` is notified when a log of the experiment has grown or an event was added, and has been since
        before this call.
        """
        output, outbox = self._output, _Outbox(send)
        await self._send_opening(outbox)
        await output.prepare()
        partials_due = 0.0
        while True:
            events = self._history.events(self._target, self.cursor.seq, self._page)
            output.merged.refresh()
            for event in events:
                await self._send_event(event, outbox)
            if events:
                await trio.lowlevel.checkpoint()
                continue
            # Nothing was awaited since the events were read: if all has ended now, they were the last.
            standing = self._history.standing(self._target)
            await self._send_output(math.inf, outbox)
            if standing.state.ended or not self._request.follow:
                if standing.state.ended:
                    for attempt in output.merged.attempts:
                        await self._send_rest(attempt, outbox)
                await outbox.put([standing])
                await outbox.flush()
                return
            if output.merged.partials_changed and trio.current_time() >= partials_due:
                await outbox.put(output.merged.take_partials())
                partials_due = trio.current_time() + _PARTIAL_PAUSE
            await outbox.flush()
            with trio.move_on_at(partials_due if output.merged.partials_changed else math.inf):
                await subscription.wait()

    async def _send_opening(self, outbox: "_Outbox") -> None:
        """The head, and the states that no event of this stream tells."""
        history, cursor = self._history, self.cursor
        await outbox.put([history.head(self._target)])
        if not cursor.seq and self._request.opening:
            await outbox.put(history.opening(self._target))
        elif not cursor.seq:
            known = history.known(self._target, self._page)
            states = [entry.seq for entry in known if isinstance(entry, StateEntry)]
            cursor.seq = max(states, default=0)
            await outbox.put(known)
        cursor.start = cursor.seq

    async def _send_event(self, event: Event, outbox: "_Outbox") -> None:
        """The state of `event`, after all output that comes before it."""
        seq, attempt = event.entry.seq, event.attempt
        await self._send_output(event.time_ms, outbox)
        ends = attempt is not None and attempt.ended == seq
        if attempt is not None and ends:
            await self._send_rest(attempt, outbox)
        self.cursor.seq = seq
        await outbox.put([event.entry])
        if attempt is not None and attempt.began == seq and not ends:
            self._output.begin(attempt)

    async def _send_output(self, until_ms: float, outbox: "_Outbox") -> None:
        """All output that appeared before `until_ms`."""
        done = False
        while not done:
            lines, done = await self._output.take(until_ms)
            await outbox.put(lines)

    async def _send_rest(self, attempt: Attempt, outbox: "_Outbox") -> None:
        """What is left of `attempt`, which has ended."""
        if attempt not in self._output.merged:
            self._output.begin(attempt)
        while attempt in self._output.merged:
            await outbox.put(await self._output.take_rest(attempt))


class _Outbox:
    """Gathers entries into batches, and sends these."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._entries: list[Entry] = []
        self._size = 0

    async def put(self, entries: Sequence[Entry]) -> None:
        """Add `entries`; send all once they make a batch."""
        self._entries.extend(entries)
        self._size += sum(len(entry.text) for entry in entries if isinstance(entry, LineEntry))
        if len(self._entries) >= BATCH_LINES or self._size >= BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Send what was gathered."""
        entries, self._entries, self._size = self._entries, [], 0
        for at in range(0, len(entries), BATCH_ENTRIES):
            await self._send(entries[at : at + BATCH_ENTRIES])
