"""A blocking HTTP/1.1 client for one daemon: h11 for the protocol, a plain socket for the bytes.

Not httpx, because importing it takes longer than a whole `riseml status` may. Whatever the other end does, a caller
gets the reply that it expects, the `RisemlError` of the daemon's `Problem`, or a `DaemonError` that says what to do.
One connection serves one request after the other; it is dropped where a reply was not read to its end.
"""

import re
import select
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn, Self, TypeVar
from urllib.parse import quote, urlencode

import h11
import msgspec

from riseml.transport.endpoint import Endpoint
from riseml.transport.unix import UnixSocket
from riseml_proto import API_VERSION, VERSION
from riseml_proto.errors import DaemonError, Unreachable, from_code
from riseml_proto.messages import Problem

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds for which the daemon may neither read nor send a byte."""
_SEND_TIMEOUT = 300.0  # the daemon syncs what it receives to disk before it answers
_READ_SIZE = 1 << 16
_HEADER, _TIME = b"rised-api", b"rised-time"
_RELEASE = re.compile(r"rised/(\d[\w.]*)", re.ASCII)
"""What a daemon calls itself."""


class Client:
    """A client of one daemon, for use in a `with`. It connects when it is first used."""

    def __init__(self, endpoint: Endpoint | str, *, timeout: float = TIMEOUT) -> None:
        """`endpoint`: where the daemon is; a text is the path of its socket. `timeout`: seconds."""
        self.endpoint = UnixSocket(endpoint) if isinstance(endpoint, str) else endpoint
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._clock_ms = 0.0  # what the daemon's clock is ahead of this machine's monotonic one

    @property
    def now(self) -> datetime:
        """The time by the daemon's clock, which all times that it tells are of, as of its last answer."""
        ms = self._clock_ms + 1e3 * time.monotonic() if self._clock_ms else 1e3 * time.time()
        return datetime.fromtimestamp(ms / 1e3, UTC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back to the endpoint, which may keep it."""
        if self._socket:
            states = self._http.our_state, self._http.their_state
            idle = states in ((h11.IDLE, h11.IDLE), (h11.DONE, h11.DONE))
            self.endpoint.release(self._socket, idle=idle)
            self._socket = None

    def get(self, path: str, reply: type[T], query: Mapping[str, object] | None = None) -> T:
        """GET `path`, and decode the answer as a `reply`. Raises `RisemlError`, as all requests."""
        target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        return self._decode(self._request("GET", target, b"", self._timeout), reply)

    def post(
        self, path: str, message: msgspec.Struct, reply: type[T], *, patient: bool = False
    ) -> T:
        """POST `message`, and decode the answer as a `reply`. `patient`: without a timeout."""
        timeout = None if patient else self._timeout
        body = msgspec.json.encode(message)
        return self._decode(self._request("POST", path, body, timeout), reply)

    def send(self, path: str, chunks: Iterable[bytes], reply: type[T]) -> T:
        """POST a body of `chunks`, each made when the daemon has read the one before; return the `reply`."""
        return self._decode(self._request("POST", path, chunks, _SEND_TIMEOUT), reply)

    def stream(self, path: str, message: msgspec.Struct) -> Iterator[bytes]:
        """POST `message`; the lines of the answer as they come. Raises `Unreachable` where they stop in the middle."""
        rest = b""
        for data in self.raw(path, message):
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
        if rest:
            self._cut()

    def raw(self, path: str, message: msgspec.Struct) -> Iterator[bytes]:
        """POST `message`; the bytes of the answer as they arrive. Raises as `stream`."""
        return self._request("POST", path, msgspec.json.encode(message), None)

    # One request

    def _request(
        self, method: str, path: str, body: bytes | Iterable[bytes], timeout: float | None
    ) -> Iterator[bytes]:
        """Send a request, a `body` of chunks as it is made, and read the answer's head; the iterator reads the rest."""
        self.connect()
        headers = [("Host", "rised"), ("Rised-Api", str(API_VERSION))]
        if not isinstance(body, bytes):
            headers.append(("Content-Type", "application/octet-stream"))
            headers.append(("Transfer-Encoding", "chunked"))
        elif method == "POST":
            headers.append(("Content-Type", "application/json"))
            headers.append(("Content-Length", str(len(body))))
        try:
            if self._write(h11.Request(method=method, target=path, headers=headers)):
                for chunk in [body] if isinstance(body, bytes) else body:
                    if chunk and not self._write(h11.Data(data=chunk)):
                        break
                else:
                    self._write(h11.EndOfMessage())
            return self._answer(timeout)
        except BaseException:
            self.close()
            raise

    def _answer(self, timeout: float | None) -> Iterator[bytes]:
        event = self._event(timeout)
        while isinstance(event, h11.InformationalResponse):
            event = self._event(timeout)
        if not isinstance(event, h11.Response):
            self._nonsense("its answer has no head")
        headers = dict(event.headers)
        self._check_version(headers)
        if (ms := headers.get(_TIME, b"")).isdigit() and len(ms) < 15:
            self._clock_ms = int(ms) - 1e3 * time.monotonic()
        body = self._body(timeout)
        if event.status_code >= 400:
            problem = self._decode(body, Problem)
            raise from_code(problem.code, problem.error)
        return body

    def _body(self, timeout: float | None) -> Iterator[bytes]:
        while not isinstance(event := self._event(timeout), h11.EndOfMessage):
            if isinstance(event, h11.ConnectionClosed):
                self._cut()
            assert isinstance(event, h11.Data)
            yield bytes(event.data)

    # Meaning

    def _decode(self, body: Iterator[bytes], reply: type[T]) -> T:
        data = b"".join(body)
        try:
            return msgspec.json.decode(data, type=reply)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._nonsense(f"{data[:60]!r} is no {reply.__name__}: {error}")

    def _check_version(self, headers: Mapping[bytes, bytes]) -> None:
        version = headers.get(_HEADER)
        if version == str(API_VERSION).encode():
            return
        name = version.decode("ascii", "replace") if version else ""
        theirs = f"version {name}" if name else "no version that it names"
        if not name.isdigit():
            restart = self.endpoint.how_to_restart(self._socket)
            way_out = f"restart the daemon{restart}, or install the riseml that fits it"
        elif int(name) > API_VERSION:
            server = headers.get(b"server", b"").decode("ascii", "replace")
            release = _RELEASE.fullmatch(server)
            exact = f"=={release[1]}" if release else ""
            way_out = f"this riseml is the older one; type here: pip install --upgrade rised{exact}"
        else:
            way_out = f"the daemon is the older one; {self.endpoint.how_to_renew(self._socket)}"
        raise DaemonError(
            f"the daemon {self.endpoint.where} speaks {theirs} of the API, this riseml {VERSION} "
            f"speaks version {API_VERSION}; {way_out}"
        )

    def _nonsense(self, detail: str) -> NoReturn:
        how = self.endpoint.how_to_restart(self._socket)
        self.close()
        raise DaemonError(
            f"what listens {self.endpoint.where} does not answer like rised ({detail}); "
            f"restart the daemon{how}, or name its socket with --host"
        )

    def _cut(self) -> NoReturn:
        assert self._socket
        lost = self.endpoint.lost(self._socket)
        self.close()
        raise lost or Unreachable(
            f"the daemon {self.endpoint.where} hung up in the middle of an answer; try again, and "
            "if it happens again, its log tells why"
        )

    # Bytes

    def connect(self) -> None:
        """Connect, unless an idle connection is there. Raises as `Endpoint.open`."""
        if self._http.our_state is self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        idle = self._http.our_state is h11.IDLE
        if self._socket and idle and not select.select([self._socket], [], [], 0)[0]:
            return  # readable would mean that the daemon has closed it meanwhile
        self.close()
        self._http = h11.Connection(h11.CLIENT)
        self._socket = self.endpoint.open(self._timeout)

    def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bool:
        """Send `event`. False where the daemon has answered already or is gone: send no more."""
        data = memoryview(self._http.send(event) or b"")
        assert self._socket
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLOUT)
        while data:
            ready = poll.poll(self._timeout * 1000)
            if not ready:
                self._no_answer(self._timeout)
            if ready[0][1] & ~select.POLLOUT:  # an answer, or a hang-up that reading will explain
                return False
            try:
                data = data[self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True

    def _event(self, timeout: float | None) -> Any:
        """The next event of the answer. `timeout`: seconds for each piece of it."""
        has_head = self._http.their_state is not h11.SEND_RESPONSE
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                assert self._socket
                self._socket.settimeout(timeout)
                self._http.receive_data(self._socket.recv(_READ_SIZE))
        except TimeoutError:
            self._no_answer(timeout or 0)
        except ConnectionResetError:
            self._cut()
        except h11.RemoteProtocolError as error:
            rest, ended = self._http.trailing_data
            if ended and (has_head or b"HTTP/".startswith(rest[:5])):
                self._cut()
            self._nonsense(str(error))
        return event

    def _no_answer(self, timeout: float) -> NoReturn:
        how = self.endpoint.how_to_restart(self._socket)
        self.close()
        raise DaemonError(
            f"the daemon {self.endpoint.where} gives no answer for {timeout:g} s; try again, "
            f"and if it stays silent, restart it{how}: running jobs go on"
        )
