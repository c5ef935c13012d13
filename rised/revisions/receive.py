"""Uploads: a body of frames becomes loose objects.

A frame is `<id> <size>\\n`, where the ID has 40 hex digits, and then `size` bytes. The network cuts the body anywhere.
A whole frame is kept, whatever comes after it: the next sync continues where one was cut off. Half a frame leaves
nothing behind.
"""

import re
from collections.abc import AsyncIterator
from typing import Protocol

import trio

from rised.revisions.objects import Writer
from riseml_proto.errors import SyncError

_HEADER = re.compile(rb"([0-9a-f]{40}) (0|[1-9][0-9]{0,17})")
_LONGEST_HEADER = 40 + 1 + 18 + 1
_BATCH = 1 << 18  # bytes that are gathered before a thread is asked to take them


class BlobSink(Protocol):
    """Takes the blobs of a body, one after the other."""

    def begin(self, oid: str, size: int) -> None:
        """A blob of `size` bytes with the ID `oid` starts."""

    def write(self, data: memoryview) -> None:
        """The next part of the blob."""

    def end(self) -> None:
        """The blob is complete."""


class FrameParser:
    """Cuts a body into blobs and passes them to `sink`. Raises `SyncError` where the body is malformed."""

    def __init__(self, sink: BlobSink, limit: int) -> None:
        """`limit` is the largest sum of the blobs' sizes, in bytes."""
        self.count = 0
        self._sink = sink
        self._limit = self._room = limit
        self._header = b""
        self._left: int | None = None  # bytes of the current blob; None between two blobs

    def feed(self, data: bytes | bytearray) -> None:
        """The next part of the body."""
        view = memoryview(data)
        while view:
            if self._left is None:
                view = view[self._take_header(view) :]
            else:
                piece, view = view[: self._left], view[self._left :]
                self._sink.write(piece)
                self._left -= len(piece)
            if self._left == 0:
                self._sink.end()
                self._left = None
                self.count += 1

    def close(self) -> None:
        """The body has ended. Raises `SyncError` in the middle of a blob."""
        if self._header or self._left is not None:
            raise SyncError("the upload broke off in the middle of a file; sync again")

    def _take_header(self, view: memoryview) -> int:
        """Take the header's bytes at the start of `view`; return their number."""
        start = bytes(view[: _LONGEST_HEADER - len(self._header)])
        line, end, _ = start.partition(b"\n")
        self._header += line
        if not end and len(self._header) < _LONGEST_HEADER:
            return len(line)
        match = _HEADER.fullmatch(self._header)
        if match is None:
            raise SyncError(f"the upload has {self._header!r} where a blob's id and size should be")
        size = int(match[2])
        if size > self._room:
            raise SyncError(
                f"the upload has more than the {self._limit:,} bytes allowed; "
                "name what does not belong to the project in .risemlignore"
            )
        self._room -= size
        self._header = b""
        self._left = size
        self._sink.begin(match[1].decode(), size)
        return len(line) + len(end)


async def receive(objects: str, limit: int, chunks: AsyncIterator[bytes]) -> int:
    """Write the blobs of a body to the directory `objects`; return their number when they are on disk.

    Raises `SyncError` for a malformed body, more than `limit` bytes, or a blob that does not have the ID in its frame,
    and `StorageFull`.
    """
    writer = Writer(objects)
    frames = FrameParser(writer, limit)
    held = bytearray()
    try:
        async for chunk in chunks:
            held += chunk
            if len(held) >= _BATCH:
                batch, held = held, bytearray()
                await trio.to_thread.run_sync(frames.feed, batch)
        batch, held = held, bytearray()
        await trio.to_thread.run_sync(frames.feed, batch)
        frames.close()
    finally:
        with trio.CancelScope(shield=True):  # short, and whole frames are kept
            await trio.to_thread.run_sync(_finish, writer, frames, held)
    return frames.count


def _finish(writer: Writer, frames: FrameParser, held: bytearray) -> None:
    with writer:
        frames.feed(held)
