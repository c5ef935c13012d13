"""One connection: requests in, answers out, until either side has had enough.

Nothing that a peer does or leaves undone can hold up more than its own connection: a head or a piece of a body that
does not come, and an answer that is not read, each end it after `PATIENCE` seconds. Between requests a connection may
idle for as long as it likes; it costs a descriptor and some memory, no time.

The reason for this room, where a web framework might be: what is wrong gets an answer in our own form, every wait can
be cancelled, and the daemon starts in half the time.
"""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import parse_qsl, unquote

import h11
import msgspec
import trio

from rised.log import log
from rised.web.request import Answer, Handler, Peer, Request, Send, Streamed
from riseml_proto import API_VERSION
from riseml_proto.errors import InvalidInput, RisemlError
from riseml_proto.messages import Problem

PATIENCE = 30.0
_HEAD_LIMIT = 16 * 1024
_CHUNK = 65536
_Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
_HEADERS = [("Rised-Api", str(API_VERSION)), ("Server", "rised")]


class PeerGone(Exception):
    """The other end closed, broke off, or took too long."""


class Connection:
    """One connection and its protocol state."""

    def __init__(self, stream: trio.SocketStream, peer: Peer, handle: Handler) -> None:
        """`handle` answers each request, or raises a `RisemlError`."""
        self._stream = stream
        self._peer = peer
        self._handle = handle
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)

    async def serve(self) -> None:
        """Serve until the connection ends. Raises nothing."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except (PeerGone, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
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
            answer = await self._handle(_request(head, self._peer, self._body))
        except RisemlError as error:
            answer = Answer(Problem(error=str(error), code=error.code), error.status)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end everybody's daemon
            log.error("request failed", target=head.target.decode("latin-1"), error=repr(error))
            problem = Problem(error=f"rised failed: {error!r}; its log says more", code="error")
            answer = Answer(problem, 500)
        if self._http.their_state is h11.SEND_BODY:
            self._http.next_event()  # the end of a body that is not there, or a piece of one not read
        if isinstance(answer, Streamed):
            await self._stream_out(answer)
        else:
            body = msgspec.json.encode(answer.message) + b"\n"
            await self._send_head(answer.status, "application/json", length=len(body))
            await self._send(self._http.send(h11.Data(data=body)))
        await self._send(self._http.send(h11.EndOfMessage()))
        # A body that nobody read ends the connection: it could be endless.
        return self._http.their_state is h11.DONE and self._http.our_state is h11.DONE

    async def _read_head(self) -> h11.Request | None:
        """The next request's head; None at the end of the connection."""
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some(_CHUNK))
            event = await self._next_event()
        if isinstance(event, h11.Request):
            return event
        return None

    async def _next_event(self) -> _Event:
        """What comes next. Raises `PeerGone` if it does not come in time."""
        with trio.move_on_after(PATIENCE):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=_HEADERS)
                    await self._send(self._http.send(go_on))
                self._http.receive_data(await self._stream.receive_some(_CHUNK))
            return event
        raise PeerGone

    async def _body(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next_event(), h11.Data):
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise PeerGone

    async def _stream_out(self, answer: Streamed) -> None:
        await self._send_head(200, answer.content_type, length=None)

        async def send(data: bytes) -> None:
            await self._send(self._http.send(h11.Data(data=data)))

        await self._while_there(answer, send)

    async def _while_there(self, answer: Streamed, send: Send) -> None:
        gone = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal gone
            # What comes before the answer has ended is not HTTP as we speak it, or the end.
            await self._stream.receive_some(1)
            gone = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                await answer.write(send)
            except RisemlError as error:  # too late for a status; a stream cut short tells enough
                log.warning("stream broken off", error=str(error))
                gone = True
            nursery.cancel_scope.cancel()
        if gone:
            raise PeerGone

    async def _send_head(self, status: int, content_type: str, *, length: int | None) -> None:
        headers = [*_HEADERS, ("Content-Type", content_type)]
        headers.append(
            ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        )
        await self._send(self._http.send(h11.Response(status_code=status, headers=headers)))

    async def _send(self, data: bytes | None) -> None:
        if not data:
            return
        with trio.move_on_after(PATIENCE):
            await self._stream.send_all(data)
            return
        raise PeerGone

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        text = f"this is not HTTP as rised speaks it: {error}"
        body = msgspec.json.encode(Problem(error=text, code=InvalidInput.code)) + b"\n"
        try:
            await self._send_head(error.error_status_hint, "application/json", length=len(body))
            await self._send(self._http.send(h11.Data(data=body)))
            await self._send(self._http.send(h11.EndOfMessage()))
        except (PeerGone, trio.BrokenResourceError, h11.LocalProtocolError):
            pass


def _request(head: h11.Request, peer: Peer, body: object) -> Request:
    path, _, query = head.target.decode("latin-1").partition("?")
    parameters: Mapping[str, str] = dict(parse_qsl(query, keep_blank_values=True))
    return Request(head.method.decode("latin-1"), unquote(path), parameters, peer, body)  # type: ignore[arg-type]  # a bound async generator
