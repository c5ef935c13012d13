"""One connection: it reads requests and sends answers until one of the two sides closes it.

A peer can delay its own connection alone. The connection ends after `PATIENCE` seconds in which the rest of a head or
body does not arrive, or an answer is not read. Between two requests it may stay idle without a limit: that costs a
descriptor and some memory, no time.

docs/decisions.md says why this is our own code over h11 and not a web framework.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qsl, unquote

import h11
import msgspec
import trio

from rised.clock import now_ms
from rised.http.connection_limit import ConnectionLimiter
from rised.http.request import Answer, Handler, Request, Send, Streamed
from rised.log import log
from rised.users.peer import Peer
from riseml_proto import API_VERSION, VERSION
from riseml_proto.errors import DaemonError, InvalidInput, RisemlError
from riseml_proto.messages import Problem

PATIENCE = 30.0
_HEAD_LIMIT = 16 * 1024
_CHUNK = 65536
_PIPELINE_LIMIT = 65536  # bytes of further requests that are kept while an answer is streamed
_Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
_HEADERS = [("Rised-Api", str(API_VERSION)), ("Server", f"rised/{VERSION}")]


class PeerGone(Exception):
    """The peer closed the connection, broke it, or took too long. Ends the connection; no user sees it."""


class Connection:
    """One connection, with h11's state of the protocol on it."""

    def __init__(
        self, stream: trio.SocketStream, peer: Peer, handle: Handler, limiter: ConnectionLimiter
    ) -> None:
        """`handle` gives the answer to a request, or raises a `RisemlError`."""
        self._stream = stream
        self._peer = peer
        self._handle = handle
        self._limiter = limiter
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)

    async def serve(self) -> None:
        """Serve until the connection ends. Raises nothing."""
        try:
            with self._limiter.slot(self._peer.uid) as admitted:
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
            await trio.aclose_forcefully(self._stream)

    async def _serve_one(self) -> bool:
        """Serve one request. Return whether the connection can carry another one."""
        head = await self._read_head()
        if head is None:
            return False
        try:
            answer = await self._handle(_request(head, self._peer, lambda: _Body(self)))
        except RisemlError as error:
            answer = _problem(error)
        except (PeerGone, h11.RemoteProtocolError):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            log.error("request failed", target=head.target.decode("latin-1"), error=repr(error))
            text = f"rised failed: {error!r}; its log says more"
            answer = _problem(RisemlError(text))
        if self._http.their_state is h11.SEND_BODY:
            self._http.next_event()  # the end of an empty body, or a piece that the handler has not read
        if isinstance(answer, Streamed):
            await self._stream_out(answer)
        else:
            await self._answer(answer, with_body=head.method != b"HEAD")
        # After a body that was not read to its end the connection closes: the rest could be endless.
        return self._http.their_state is h11.DONE and self._http.our_state is h11.DONE

    async def _turn_away(self) -> bool:
        text = f"rised serves {self._limiter.limit} others; try again when fewer follow logs"
        await self._answer(_problem(DaemonError(text)))
        return False

    async def _read_head(self) -> h11.Request | None:
        """Wait for the head of the next request; None where the connection ended."""
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            data = b""  # as at the end, where a newcomer needs the slot
            with self._limiter.idling(self._peer.uid):
                data = await self._receive()
            self._http.receive_data(data)
            event = await self._next_event()
        if isinstance(event, h11.Request):
            return event
        return None

    async def _next_event(self) -> _Event:
        """Wait for h11's next event. Raises `h11.RemoteProtocolError` if it is not HTTP, or is late."""
        with trio.move_on_after(PATIENCE):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=_HEADERS)
                    await self._send(self._http.send(go_on))
                self._http.receive_data(await self._receive())
            return event
        raise h11.RemoteProtocolError(f"the rest did not come within {PATIENCE:g} s", 408)

    async def body_piece(self) -> bytes | None:
        """Wait for the next piece of the request's body; None at its end. Raises what `_next_event` raises."""
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
            left = _PIPELINE_LIMIT
            with contextlib.suppress(PeerGone):
                while left > 0 and (data := await self._receive()):
                    self._http.receive_data(data)  # a request before the end of this answer
                    left -= len(data)
            gone = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                await answer.write(send)
            except PeerGone:  # caught here, because the nursery would wrap it in a group
                gone = True
            except Exception as error:  # noqa: BLE001 - the status is sent; the peer sees a stream that is cut short
                log.error("stream broken off", error=repr(error))
                gone = True
            nursery.cancel_scope.cancel()
        if gone:
            raise PeerGone

    def _head(self, status: int, content_type: str, *, length: int | None) -> bytes:
        headers = [*_HEADERS, ("Rised-Time", str(now_ms())), ("Content-Type", content_type)]
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
        """Wait for some bytes; empty at the end. Raises `PeerGone`."""
        try:
            return bytes(await self._stream.receive_some(_CHUNK))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGone from None

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        text = f"the request is not HTTP/1.1 as rised speaks it: {error}"
        answer = _problem(InvalidInput(text))._replace(status=error.error_status_hint)
        with contextlib.suppress(PeerGone, h11.LocalProtocolError):
            await self._answer(answer)


class _Body:
    """The pieces of a body. It is no generator, because a handler may stop in the middle and closes nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if (piece := await self._connection.body_piece()) is None:
            raise StopAsyncIteration
        return piece


def _problem(error: RisemlError) -> Answer:
    return Answer(Problem(error=str(error), code=error.code), error.status)


def _request(head: h11.Request, peer: Peer, body: Callable[[], AsyncIterator[bytes]]) -> Request:
    path, _, query = head.target.decode("latin-1").partition("?")
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:  # h11 has made the names lower-case
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(
        method=head.method.decode("latin-1"),
        path=unquote(path),
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        peer=peer,
        body=body,
    )
