"""Follow an experiment's states and output, also across restarts of the daemon.

A stream that stops without its `end` entry was cut. The follower then connects again and sends how far it has
read, the highest `seq` and the byte offset in each attempt's log: nothing is shown twice and nothing is lost.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TextIO

import msgspec

from riseml.screen import Screen
from riseml.transport.http import Client
from riseml_proto.errors import DaemonError, Unreachable
from riseml_proto.messages import (
    EndEntry,
    Entry,
    HeadEntry,
    LineEntry,
    LogRequest,
    PartialEntry,
    StateEntry,
)

Connect = Callable[[], AbstractContextManager[Client]]

_STEADY = 10.0  # seconds; a stream that lasted so long counts as back, even without an entry
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 1.0  # seconds between two attempts to connect
_NOTICE_AFTER = 1.0  # seconds without a stream before the person is told

_LONGEST_LINE = 16 << 20  # characters that are kept until their line ends
_DECODER = msgspec.json.Decoder(Entry)


def follow(connect: Connect, request: LogRequest, *, out: TextIO | None = None) -> EndEntry:
    """Show the log of `request` on `out` (default: stdout); the stream's last entry. Raises the daemon's errors."""
    screen = Screen(out)
    try:
        for _, entry in entries(connect, request, screen.notice):
            if isinstance(entry, EndEntry):
                return entry
            screen.show(entry)
    finally:
        screen.clear()
    raise AssertionError("entries() ends with an EndEntry or raises")


def entries(
    connect: Connect, request: LogRequest, notice: Callable[[str], None]
) -> Iterator[tuple[bytes, Entry]]:
    """The entries up to the `EndEntry`, each with its line of JSON; a long line is one. Raises as `follow`."""
    progress = _Progress(request)
    joiner = LineJoiner()
    cut_at = None
    delay = _FIRST_DELAY
    noticed = False
    while True:
        begun = None
        try:
            for line, entry in _stream(connect, progress.request()):
                begun = begun or time.monotonic()
                if progress.is_new(entry):
                    if not isinstance(entry, HeadEntry):
                        cut_at, delay, noticed = None, _FIRST_DELAY, False
                    yield from joiner.take(line, entry)
            return
        except Unreachable as error:
            now = time.monotonic()
            if begun and now - begun >= _STEADY:
                cut_at, delay, noticed = None, _FIRST_DELAY, False
            cut_at = cut_at or now
            if not progress.started or now - cut_at + delay > error.patience:
                raise
            if not noticed and now - cut_at + delay > _NOTICE_AFTER:
                notice(error.notice)
                noticed = True
        time.sleep(delay)
        delay = min(2 * delay, _LONGEST_DELAY)


class LineJoiner:
    """Joins the pieces of long lines: whoever reads gets one entry for each line of up to 16 MiB."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[str, int], list[LineEntry]] = {}

    def take(self, line: bytes, entry: Entry) -> Iterator[tuple[bytes, Entry]]:
        """What `entry`, which came as `line`, makes complete; at the stream's end also what is not."""
        if isinstance(entry, LineEntry):
            key = entry.job, entry.attempt
            begun = self._pieces.get(key, [])
            if entry.more or begun:
                begun.append(entry)
                if entry.more and sum(len(piece.text) for piece in begun) < _LONGEST_LINE:
                    self._pieces[key] = begun
                else:
                    yield self._joined(self._pieces.pop(key, begun))
                return
        if isinstance(entry, EndEntry):
            for pieces in self._pieces.values():
                yield self._joined(pieces)
            self._pieces.clear()
        yield line, entry

    def _joined(self, pieces: list[LineEntry]) -> tuple[bytes, Entry]:
        first, last = pieces[0], pieces[-1]
        whole = msgspec.structs.replace(
            first, text="".join(piece.text for piece in pieces), end=last.end, more=last.more
        )
        return msgspec.json.encode(whole), whole


def _stream(connect: Connect, request: LogRequest) -> Iterator[tuple[bytes, Entry]]:
    """The entries of one connection. Raises `Unreachable` where they stop before the `EndEntry`."""
    with connect() as client:
        for line in client.stream("/v1/logs", request):
            entry = _decode(line)
            yield line, entry
            if isinstance(entry, EndEntry):
                return
    raise Unreachable("the daemon went away in the middle; riseml logs -f comes back to it")


class _Progress:
    """How far a follower has read, and so what it asks for after a cut."""

    def __init__(self, request: LogRequest) -> None:
        self.started = False
        self._first = request
        self._seq = request.after
        self._offsets = dict(request.offsets)
        self._before = (self._seq, self._offsets)  # what the request of the present stream said
        self._latest: datetime | None = None
        self._unnumbered: set[Entry] = set()

    def request(self) -> LogRequest:
        """The request for the entries that have not been seen."""
        self._before = (self._seq, self._offsets.copy())
        resumed = msgspec.structs.replace(
            self._first, after=self._seq, offsets=self._offsets.copy()
        )
        if self._first.tail is None or self._latest is None:
            return resumed
        # "The last n lines" has been answered. Asked again, it would leave out lines written since.
        since = max(self._latest, self._first.since or self._latest)
        return msgspec.structs.replace(resumed, tail=None, since=since)

    def is_new(self, entry: Entry) -> bool:
        """Record `entry`, and return whether it is seen for the first time."""
        if isinstance(entry, HeadEntry):
            first, self.started = not self.started, True
            return first
        if isinstance(entry, EndEntry | PartialEntry):
            return True
        after, offsets = self._before
        if isinstance(entry, LineEntry):
            attempt = f"{entry.job}/{entry.attempt}"
            if entry.end <= offsets.get(attempt, -1):
                return False
            self._offsets[attempt] = entry.end
        elif isinstance(entry, StateEntry) and entry.seq:
            if entry.seq <= after:
                return False
            self._seq = max(entry.seq, self._seq)
        elif entry in self._unnumbered:  # such entries open a stream, also a resumed one
            return False
        else:
            self._unnumbered.add(entry)
        self._latest = max(entry.time, self._latest or entry.time)
        return True


def _decode(line: bytes) -> Entry:
    try:
        entry: Entry = _DECODER.decode(line)
        return entry
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DaemonError(
            f"the daemon sent {line[:60]!r} among log entries ({error}); "
            "restart the daemon, or install the riseml that fits it"
        ) from None
