"""One connection: requests in, answers out, until either side has had enough.

Nothing that a peer does or leaves undone can hold up more than its own connection: a head or a piece of a body that
does not come, and an answer that is not read, each end it after `PATIENCE` seconds. Between requests a connection may
idle for as long as it likes; it costs a descriptor and some memory, no time.

The reason for this room, where a web framework might be: what is wrong gets an answer in our own form, every wait can
be cancelled, and the daemon starts in half the time.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import parse_qsl, unquote

import h11
import msgspec
import trio

from rised.http.connection_limit import ConnectionLimiter
from rised.http.request import Answer, Handler, Request, Send, Streamed
from rised.log import log
from rised.users.peer import Peer
from riseml_proto import API_VERSION
from riseml_proto.errors import DaemonError, InvalidInput, RisemlError
from riseml_proto.messages import Problem

PATIENCE = 30.0
_HEAD_LIMIT = 16 * 1024
_CHUNK = 65536
_PIPELINE_LIMIT = 65536  # bytes of further requests that are kept while a stream is answered
_Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
_HEADERS = [("Rised-Api", str(API_VERSION)), ("Server", "rised")]


class PeerGone(Exception):
    """The other end closed, broke off, or took too long."""


class Connection:
    """One connection and its protocol state."""

    def __init__(
        self, stream: trio.SocketStream, peer: Peer, handle: Handler, room: ConnectionLimiter
    ) -> None:
        """`handle` answers each request, or raises a `RisemlError`."""
        self._stream = stream
        self._peer = peer
        self._handle = handle
        self._room = room
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)

    async def serve(self) -> None:
        """Serve until the connection ends. Raises nothing."""
        try:
            with self._room.place(self._peer.uid) as admitted:
                serve_one = self._serve_one if admitted else self._turn_away
                while await serve_one():
                    self._http.start_next_cycle()
        except PeerGone:
            pass
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end everybody's daemon
            log.error("connection failed", error=repr(error))
        finally:
            with trio.move_on_after(0) as scope:
                scope.shield = True
                await self._stream.aclose()

    async def _serve_one(self) -> bool:
        """Serve one request. Return whether there may be another on this connection."""
        head = await self._read_head()
        if head is None:
            return False
        try:
            answer = await self._handle(_request(head, self._peer, lambda: _Body(self)))
        except RisemlError as error:
            answer = Answer(Problem(error=str(error), code=error.code), error.status)
        except (PeerGone, h11.RemoteProtocolError):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            log.error("request failed", target=head.target.decode("latin-1"), error=repr(error))
            problem = Problem(error=f"rised failed: {error!r}; its log says more", code="error")
            answer = Answer(problem, 500)
        if self._http.their_state is h11.SEND_BODY:
            self._http.next_event()  # the end of a body that is not there, or a piece of one not read
        if isinstance(answer, Streamed):
            await self._stream_out(answer)
        else:
            await self._answer(answer, with_body=head.method != b"HEAD")
        # A body that nobody read ends the connection: it could be endless.
        return self._http.their_state is h11.DONE and self._http.our_state is h11.DONE

    async def _turn_away(self) -> bool:
        text = f"rised serves {self._room.limit} others; try again when fewer follow logs"
        await self._answer(Answer(Problem(error=text, code=DaemonError.code), DaemonError.status))
        return False

    async def _read_head(self) -> h11.Request | None:
        """The next request's head; None at the end of the connection."""
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            data = b""
            with self._room.idling(self._peer.uid):
                data = await self._receive()
            self._http.receive_data(data)
            event = await self._next_event()
        if isinstance(event, h11.Request):
            return event
        return None

    async def _next_event(self) -> _Event:
        """What comes next. Raises `h11.RemoteProtocolError` if it is not HTTP, or does not come in time."""
        with trio.move_on_after(PATIENCE):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=_HEADERS)
                    await self._send(self._http.send(go_on))
                self._http.receive_data(await self._receive())
            return event
        raise h11.RemoteProtocolError(f"the rest did not come within {PATIENCE:g} s", 408)

    async def body_piece(self) -> bytes | None:
        """The next piece of the request's body; None at its end. Raises as `_next_event`."""
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _answer(self, answer: Answer, *, with_body: bool = True) -> None:
        body = msgspec.json.encode(answer.message) + b"\n"
        data = self._head(answer.status, "application/json", length=len(body))
        if with_body:
            data += self._http.send(h11.Data(data=body)) or b""
        await self._send(data + (self._http.send(h11.EndOfMessage()) or b""))

    async def _stream_out(self, answer: Streamed) -> None:
        await self._send(self._head(200, answer.content_type, length=None))

        async def send(data: bytes) -> None:
            await self._send(self._http.send(h11.Data(data=data)))

        await self._while_there(answer, send)
        await self._send(self._http.send(h11.EndOfMessage()))

    async def _while_there(self, answer: Streamed, send: Send) -> None:
        gone = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal gone
            room = _PIPELINE_LIMIT
            with contextlib.suppress(PeerGone):
                while room > 0 and (data := await self._receive()):
                    self._http.receive_data(data)  # the next request, before this one is answered
                    room -= len(data)
            gone = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                await answer.write(send)
            except PeerGone:  # must not leave the nursery: it would come out in a group
                gone = True
            except Exception as error:  # noqa: BLE001 - too late for a status; a stream cut short tells enough
                log.error("stream broken off", error=repr(error))
                gone = True
            nursery.cancel_scope.cancel()
        if gone:
            raise PeerGone

    def _head(self, status: int, content_type: str, *, length: int | None) -> bytes:
        headers = [*_HEADERS, ("Content-Type", content_type)]
        if self._http.their_state is h11.SEND_BODY:
            headers.append(("Connection", "close"))
        headers.append(
            ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        )
        return self._http.send(h11.Response(status_code=status, headers=headers)) or b""

    async def _send(self, data: bytes | None) -> None:
        view = memoryview(data or b"")
        while view:
            with trio.move_on_after(PATIENCE) as patience:
                try:
                    await self._stream.send_all(view[:_CHUNK])
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise PeerGone from None
            if patience.cancelled_caught:
                raise PeerGone
            view = view[_CHUNK:]

    async def _receive(self) -> bytes:
        """Some bytes; none at the end. Raises `PeerGone`."""
        try:
            return bytes(await self._stream.receive_some(_CHUNK))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGone from None

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        text = f"the request is not HTTP/1.1 as rised speaks it: {error}"
        problem = Problem(error=text, code=InvalidInput.code)
        with contextlib.suppress(PeerGone, h11.LocalProtocolError):
            await self._answer(Answer(problem, error.error_status_hint))


class _Body:
    """The pieces of a body. Not a generator: a handler may stop in the middle, and nothing has to be closed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if (piece := await self._connection.body_piece()) is None:
            raise StopAsyncIteration
        return piece


def _request(head: h11.Request, peer: Peer, body: Callable[[], AsyncIterator[bytes]]) -> Request:
    path, _, query = head.target.decode("latin-1").partition("?")
    parameters: Mapping[str, str] = dict(parse_qsl(query, keep_blank_values=True))
    return Request(head.method.decode("latin-1"), unquote(path), parameters, peer, body)
