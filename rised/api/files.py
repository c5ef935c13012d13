"""Files in output directories and in the data directory, with the caller's rights."""

from collections.abc import Iterator
from itertools import islice

import msgspec
import trio

from rised.api.context import Context
from rised.api.resolved_uri import ResolvedUri, resolve
from rised.files import partial_file, walk
from rised.files.beneath import Top
from rised.files.receive import Receiver
from rised.files.send import PIECE, frames, open_file, pieces
from rised.files.worker import Worker, upload_slot
from rised.http.request import Answer, Request, Send, Streamed
from rised.users.peer import Peer
from riseml_proto.errors import InvalidInput
from riseml_proto.file_messages import (
    Fetch,
    FileInfo,
    List,
    Part,
    PartRequest,
    Remove,
    Removed,
    Storing,
)

_PAGE = 500
_FETCH_LIMIT = 8 << 20
_CLOSING = 5.0  # seconds


async def index(context: Context, request: Request) -> Streamed:
    """List what `?uri=data://images` names as `FileInfo`, one a line; with `?recursive=true` all below it."""
    message = List(uri=request.query.get("uri", ""), recursive=request.flag("recursive"))
    return await _list(context, request.peer, message)


async def post(context: Context, request: Request) -> Streamed:
    """List a directory, or look at a file (`List`, answered by a `FileInfo` a line)."""
    return await _list(context, request.peer, await request.message(List))


async def _list(context: Context, peer: Peer, message: List) -> Streamed:
    resolved = resolve(context, peer, message.uri)

    def start() -> Iterator[FileInfo]:
        handle = Top(resolved.top).find(resolved.path)
        return walk.listing(handle, inside=not message.itself, recursive=message.recursive)

    def page(infos: Iterator[FileInfo]) -> bytes:
        return b"".join(msgspec.json.encode(info) + b"\n" for info in islice(infos, _PAGE))

    worker = Worker(resolved.owner, resolved.uri)
    infos = await worker.run(start)
    # Read before the answer begins, so that an error gets its status.
    first = await worker.run(page, infos)

    async def write(send: Send) -> None:
        data = first
        while data:
            await send(data)
            data = await worker.run(page, infos)

    return Streamed(write)


async def content(context: Context, request: Request) -> Streamed:
    """Send the bytes of the file that `?uri=data://images/a.png` names, with `?offset=1000` without the first 1,000."""
    resolved = resolve(context, request.peer, request.query.get("uri", ""))
    offset = request.number("offset") or 0

    def start() -> Iterator[bytes]:
        file, status = open_file(Top(resolved.top), resolved.path)
        return pieces(file, offset, status.st_size)

    worker = Worker(resolved.owner, resolved.uri)
    return _sent(worker, await worker.run(start))


async def fetch(context: Context, request: Request) -> Streamed:
    """Send files (`Fetch`): for each a line, its `FileInfo`, then the bytes from its `offset` to its `size`."""
    message = await request.message(Fetch, limit=_FETCH_LIMIT)
    resolved = resolve(context, request.peer, message.uri)

    def start() -> Iterator[bytes]:
        return frames(Top(resolved.top), resolved.path, resolved.uri, message.files)

    worker = Worker(resolved.owner, resolved.uri)
    return _sent(worker, await worker.run(start))


def _sent(worker: Worker, steps: Iterator[bytes]) -> Streamed:
    async def write(send: Send) -> None:
        while (data := await worker.run(next, steps, None)) is not None:
            await send(data)

    return Streamed(write, "application/octet-stream")


async def store(context: Context, request: Request) -> Answer:
    """Take in files below `?uri=data://images`: for each a line, `Stored`, then the bytes from its `offset` to its
    `size`. Answered by `Storing` when all are on disk; each is in its place as a whole or not at all.
    """
    resolved = resolve(context, request.peer, request.query.get("uri", ""))
    worker = Worker(resolved.owner, resolved.uri)

    def start() -> Receiver:
        return Receiver(Top(resolved.top), resolved.uri, resolved.path, resolved.owner)

    async with upload_slot(resolved.owner.uid):
        receiver = await worker.run(start)
        held = bytearray()
        try:
            async for chunk in request.body():
                held += chunk
                if len(held) >= PIECE:
                    batch, held = held, bytearray()
                    await worker.run(receiver.feed, batch)
            batch, held = held, bytearray()
            await worker.run(receiver.feed, batch)
            await worker.run(receiver.end)
        finally:
            # What has arrived is worth keeping, but a disk that hangs must not delay the shutdown.
            with trio.move_on_after(_CLOSING, shield=True):
                await worker.run(receiver.close, held)
    return Answer(Storing(stored=receiver.stored))


async def part(context: Context, request: Request) -> Answer:
    """Tell how far an upload came (`PartRequest`, answered by `Part`)."""
    message = await request.message(PartRequest)
    resolved = resolve(context, request.peer, message.uri)

    def look() -> int:
        folder, name = Top(resolved.top).find_above(resolved.path)
        return partial_file.size_of(folder, name, message.version, resolved.owner)

    return Answer(Part(size=await Worker(resolved.owner, resolved.uri).run(look)))


async def remove(context: Context, request: Request) -> Answer:
    """Remove files and directories (`Remove`, answered by `Removed`)."""
    message = await request.message(Remove)
    every = [resolve(context, request.peer, text) for text in message.uris]
    if any(not resolved.path for resolved in every):
        raise InvalidInput("data:// itself stays; say what in it")
    removed = 0
    for resolved in every:
        steps = _removal(resolved, recursive=message.recursive)
        worker = Worker(resolved.owner, resolved.uri)
        while done := await worker.run(_count, steps):
            removed += done
    return Answer(Removed(removed=removed))


def _removal(resolved: ResolvedUri, *, recursive: bool) -> Iterator[None]:
    folder, name = Top(resolved.top).find_above(resolved.path)
    try:
        yield from walk.remove(folder, name, recursive=recursive)
    except IsADirectoryError:
        text = f"{resolved.uri} is a directory; with -r it goes with all in it"
        raise InvalidInput(text) from None


def _count(steps: Iterator[None]) -> int:
    return sum(1 for _ in islice(steps, _PAGE))
