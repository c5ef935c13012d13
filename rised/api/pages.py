"""Long answers: they are written page by page, so that other requests wait for one page at most."""

from collections.abc import Iterable, Sequence

import msgspec
import trio

from rised.http.request import Send, Streamed


def in_pages(whole: object, pages: Iterable[Sequence[msgspec.Struct]]) -> Streamed:
    """The JSON of `whole`, which must end in an empty list, with the entries of all `pages` in that list."""
    start, end = msgspec.json.encode(whole).rsplit(b"[]", 1)

    async def write(send: Send) -> None:
        await send(start + b"[")
        comma = b""
        for page in pages:
            if page:
                await send(comma + msgspec.json.encode(page)[1:-1])
                comma = b","
            await trio.lowlevel.checkpoint()
        await send(b"]" + end + b"\n")

    return Streamed(write, "application/json")
