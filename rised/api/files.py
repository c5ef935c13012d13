"""Files in output directories and in the data directory, with the caller's rights."""

import os
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import msgspec
import trio

from rised.api.context import Context
from rised.experiments.experiment import check_member
from rised.files import parts, walk
from rised.files.beneath import Top
from rised.files.problems import told
from rised.files.receive import Receiver
from rised.files.send import PIECE, frames, open_file, pieces
from rised.files.worker import Worker, upload_slot
from rised.http.request import Answer, Request, Send, Streamed
from rised.storage.owners import owner_of
from rised.users.owner import Owner, of_peer, own
from rised.users.peer import Peer
from riseml_proto import uris
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
from riseml_proto.uris import Remote

_PAGE = 500
_FETCH_LIMIT = 8 << 20
_CLOSING = 5.0  # seconds


class _Place(NamedTuple):
    """What a URI means to whoever asks."""

    uri: Remote
    top: str
    """The directory that nothing may lead out of."""
    prefix: bytes
    """From there to where the URI's path begins."""
    owner: Owner

    @property
    def path(self) -> bytes:
        """From the top to what the URI names."""
        return b"/".join(part for part in (self.prefix, self.uri.path) if part)


def _place(context: Context, peer: Peer, text: str) -> _Place:
    """Raises `InvalidInput`, `NotFound`, `Forbidden`."""
    uri = uris.parse(text)
    caller = of_peer(peer)
    if not context.settings.system:  # root looks at a person's own with that person's rights
        caller = msgspec.structs.replace(own(), umask=caller.umask)
    if uri.experiment is None:
        return _Place(uri, context.settings.data_dir, b"", caller)
    found, row = context.target(peer, str(uri.experiment))
    check_member(row.members, row.id, found.member)
    if (
        row.uid != peer.uid and context.settings.system
    ):  # an administrator, whom the kernel does not know as one
        caller = owner_of(row)
    top = os.path.join(context.settings.output_dir, row.user)
    prefix = os.path.relpath(context.views.output_dir(row, found.member or 0), top)
    return _Place(uri, top, os.fsencode(prefix), caller)


async def index(context: Context, request: Request) -> Streamed:
    """List what `?uri=data://images` names as `FileInfo`, one a line; with `?recursive=true` all below it."""
    asked = List(uri=request.query.get("uri", ""), recursive=request.flag("recursive"))
    return await _list(context, request.peer, asked)


async def post(context: Context, request: Request) -> Streamed:
    """List a directory, or look at a file (`List`, answered by a `FileInfo` a line)."""
    return await _list(context, request.peer, await request.message(List))


async def _list(context: Context, peer: Peer, asked: List) -> Streamed:
    place = _place(context, peer, asked.uri)

    def start() -> Iterator[FileInfo]:
        with told(place.uri):
            found = Top(place.top).find(place.path)
            return walk.listing(found, inside=not asked.itself, recursive=asked.recursive)

    def page(infos: Iterator[FileInfo]) -> bytes:
        with told(place.uri):
            return b"".join(msgspec.json.encode(info) + b"\n" for info in islice(infos, _PAGE))

    worker = Worker(place.owner)
    infos = await worker.run(start)
    first = await worker.run(page, infos)  # while what is wrong can still be told

    async def write(send: Send) -> None:
        data = first
        while data:
            await send(data)
            data = await worker.run(page, infos)

    return Streamed(write)


async def content(context: Context, request: Request) -> Streamed:
    """Send the bytes of the file that `?uri=data://images/a.png` names, with `?offset=1000` without the first 1,000."""
    place = _place(context, request.peer, request.query.get("uri", ""))
    offset = request.number("offset") or 0

    def start() -> Iterator[bytes]:
        with told(place.uri):
            file, found = open_file(Top(place.top), place.path)
        return pieces(file, offset, found.st_size)

    worker = Worker(place.owner)
    return _sent(worker, await worker.run(start))


async def fetch(context: Context, request: Request) -> Streamed:
    """Send files (`Fetch`): for each a line, its `FileInfo`, then the bytes from its `offset` to its `size`."""
    asked = await request.message(Fetch, limit=_FETCH_LIMIT)
    place = _place(context, request.peer, asked.uri)

    def start() -> Iterator[bytes]:
        with told(place.uri):
            return frames(Top(place.top), place.path, place.uri, asked.files)

    worker = Worker(place.owner)
    return _sent(worker, await worker.run(start))


def _sent(worker: Worker, steps: Iterator[bytes]) -> Streamed:
    async def write(send: Send) -> None:
        while (data := await worker.run(next, steps, None)) is not None:
            await send(data)

    return Streamed(write, "application/octet-stream")


async def database(context: Context, request: Request) -> Answer:
    """Take in files below `?uri=data://images`: for each a line, `Stored`, then the bytes from its `offset` to its
    `size`. Answered by `Storing` when all are on disk; each is in its place as a whole or not at all.
    """
    place = _place(context, request.peer, request.query.get("uri", ""))
    worker = Worker(place.owner)

    def start() -> Receiver:
        with told(place.uri):
            return Receiver(Top(place.top), place.uri, place.path, place.owner)

    async with upload_slot(place.owner.uid):
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
            # What came is worth keeping, but a disk that hangs must not hold up the shutdown.
            with trio.move_on_after(_CLOSING) as scope:
                scope.shield = True
                await worker.run(receiver.close, held)
    return Answer(Storing(stored=receiver.stored))


async def part(context: Context, request: Request) -> Answer:
    """Tell how far an upload came (`PartRequest`, answered by `Part`)."""
    asked = await request.message(PartRequest)
    place = _place(context, request.peer, asked.uri)

    def look() -> int:
        with told(place.uri):
            folder, name = Top(place.top).find_above(place.path)
            return parts.size_of(folder, name, asked.version, place.owner)

    return Answer(Part(size=await Worker(place.owner).run(look)))


async def remove(context: Context, request: Request) -> Answer:
    """Remove files and directories (`Remove`, answered by `Removed`)."""
    asked = await request.message(Remove)
    places = [_place(context, request.peer, text) for text in asked.uris]
    for place in places:
        if not place.path:
            raise InvalidInput("data:// itself stays; say what in it")
    removed = 0
    for place in places:
        steps = _removal(place, recursive=asked.recursive)
        worker = Worker(place.owner)
        while done := await worker.run(_count, steps):
            removed += done
    return Answer(Removed(removed=removed))


def _removal(place: _Place, *, recursive: bool) -> Iterator[None]:
    with told(place.uri):
        folder, name = Top(place.top).find_above(place.path)
        try:
            yield from walk.remove(folder, name, recursive=recursive)
        except IsADirectoryError:
            raise InvalidInput(
                f"{place.uri} is a directory; with -r it goes with all in it"
            ) from None


def _count(steps: Iterator[None]) -> int:
    return sum(1 for _ in islice(steps, _PAGE))
