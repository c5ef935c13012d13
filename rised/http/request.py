"""One request as its handler sees it, and the answer that a handler gives."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from rised.users.peer import Peer
from riseml_proto.errors import InvalidInput

T = TypeVar("T")

JSON_LIMIT = 1 << 20
"""Bytes of a body that is one message; handlers that need more say so."""


class Answer(NamedTuple):
    """A whole answer."""

    message: msgspec.Struct | list[msgspec.Struct]
    status: int = 200


Send = Callable[[bytes], Awaitable[None]]
Stream = Callable[[Send], Awaitable[None]]


class Streamed(NamedTuple):
    """An answer that is written bit by bit: `write` gets a function that sends, and is cancelled if the peer goes."""

    write: Stream
    content_type: str = "application/x-ndjson"


class Request:
    """One request. Its body is read by whoever handles it, or not at all."""

    def __init__(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        peer: Peer,
        body: Callable[[], AsyncIterator[bytes]],
    ) -> None:
        """`path` has no query; `body` gives the pieces of the body as they come."""
        self.method = method
        self.path = path
        self.query = query
        self.peer = peer
        self.body = body

    async def message(self, kind: type[T], limit: int = JSON_LIMIT) -> T:
        """The body as a message. Raises `InvalidInput` for one that is not `kind` in JSON, or longer than `limit`."""
        read = bytearray()
        async for piece in self.body():
            read += piece
            if len(read) > limit:
                raise InvalidInput(f"the request is longer than {limit} bytes")
        try:
            return msgspec.json.decode(bytes(read), type=kind)
        except msgspec.DecodeError as error:  # a ValidationError is one, too
            raise InvalidInput(f"the request is not what {self.path} takes: {error}") from None
        except RecursionError:
            raise InvalidInput("the request is nested too deeply") from None

    def flag(self, name: str) -> bool:
        """A query parameter that is `true` or `false`."""
        value = self.query.get(name, "false")
        if value not in ("true", "false", ""):
            raise InvalidInput(f"?{name}= takes true or false, not {value!r}")
        return value != "false"

    def number(self, name: str) -> int | None:
        """A query parameter that counts something."""
        value = self.query.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 16):
            raise InvalidInput(f"?{name}= takes a number, not {value!r}")
        return int(value)

    def moment(self, name: str) -> datetime | None:
        """A query parameter that is a time."""
        value = self.query.get(name)
        try:
            return None if value is None else msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            raise InvalidInput(
                f"?{name}= takes a time such as 2017-08-30T09:59:06Z, not {value!r}"
            ) from None


Handler = Callable[[Request], Awaitable[Answer | Streamed]]
