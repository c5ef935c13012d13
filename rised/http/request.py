"""A request as its handler sees it, and the two kinds of answers that a handler may give."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from rised.users.peer import Peer
from riseml_proto.errors import InvalidInput

T = TypeVar("T")

JSON_LIMIT = 1 << 20
"""Bytes that a message in a request's body may have, unless its handler allows more."""


class Answer(NamedTuple):
    """An answer that is one JSON message."""

    message: msgspec.Struct | list[msgspec.Struct]
    status: int = 200


Send = Callable[[bytes], Awaitable[None]]
Stream = Callable[[Send], Awaitable[None]]


class Streamed(NamedTuple):
    """An answer in pieces. `write` gets a function that sends one, and is cancelled when the peer leaves."""

    write: Stream
    content_type: str = "application/x-ndjson"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request. Nothing reads its body before the handler does."""

    method: str
    path: str
    """Decoded, without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case. The values of a header that came twice are joined by a comma and a blank."""
    peer: Peer
    body: Callable[[], AsyncIterator[bytes]]
    """The pieces of the body, as they arrive."""

    async def message(self, kind: type[T], limit: int = JSON_LIMIT) -> T:
        """Read the body as a JSON message. Raises `InvalidInput` if it is no `kind`, or has more than `limit` bytes."""
        text = bytearray()
        async for piece in self.body():
            text += piece
            if len(text) > limit:
                raise InvalidInput(f"the request is longer than {limit} bytes")
        try:
            return msgspec.json.decode(bytes(text), type=kind)
        except msgspec.DecodeError as error:  # its subclass ValidationError as well
            raise InvalidInput(f"the request is not what {self.path} takes: {error}") from None
        except RecursionError:
            raise InvalidInput("the request is nested too deeply") from None

    def flag(self, name: str) -> bool:
        """A query parameter that is `true` or `false`; False where it is missing. Raises `InvalidInput`."""
        value = self.query.get(name, "false")
        if value not in ("true", "false", ""):
            raise InvalidInput(f"?{name}= takes true or false, not {value!r}")
        return value != "false"

    def number(self, name: str) -> int | None:
        """A query parameter that is 0 or more; None where it is missing. Raises `InvalidInput`."""
        value = self.query.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 16):
            raise InvalidInput(f"?{name}= takes a number, not {value!r}")
        return int(value)

    def moment(self, name: str) -> datetime | None:
        """A query parameter that is a time; None where it is missing. Raises `InvalidInput`."""
        value = self.query.get(name)
        try:
            return None if value is None else msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            raise InvalidInput(
                f"?{name}= takes a time such as 2017-08-30T09:59:06Z, not {value!r}"
            ) from None


Handler = Callable[[Request], Awaitable[Answer | Streamed]]
