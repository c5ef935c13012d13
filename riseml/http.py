"""A blocking HTTP/1.1 client for one Unix socket: h11 for the protocol, a plain socket for the
bytes.

Not httpx, because importing it costs more than a whole `riseml status` may take.

Whatever the other end does, a caller gets the reply it asked for, the `RisemlError` that the
daemon's `Problem` stands for, or a `DaemonError` that says what to do. One connection is kept and
used again; it serves one request at a time, and one whose reply was not read to its end is dropped.
"""

import os
import select
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import h11
import msgspec

from riseml_proto import API_VERSION, VERSION
from riseml_proto.errors import DaemonError, from_code
from riseml_proto.messages import Problem
from riseml_proto.places import SYSTEM_SOCKET

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds in which the daemon has to take or to send something."""
_SEND_TIMEOUT = 300.0  # objects that were sent are synced to disk before they are acknowledged
_READ_SIZE = 1 << 16
_LONGEST_PATH = 107  # bytes that fit into the kernel's sockaddr_un
_HEADER = b"rised-api"


class Unreachable(DaemonError):
    """Nobody listens, or the connection was cut: the daemon may be restarting."""


class Client:
    """A client of the daemon at socket `path`, for use in a `with`; connects when first used."""

    def __init__(self, path: str, *, timeout: float = TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._http = h11.Connection(h11.CLIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def get(self, path: str, reply: type[T]) -> T:
        """GET `path`; the answer as a `reply`."""
        return self._decode(self._request("GET", path, [], self._timeout), reply)

    def post(
        self, path: str, message: msgspec.Struct, reply: type[T], *, patient: bool = False
    ) -> T:
        """POST `message`; the answer as a `reply`. `patient`: wait for it as long as it takes."""
        timeout = None if patient else self._timeout
        body = msgspec.json.encode(message)
        return self._decode(self._request("POST", path, [body], timeout, len(body)), reply)

    def send(self, path: str, chunks: Iterable[bytes], reply: type[T]) -> T:
        """POST a body of `chunks`, taken as the daemon takes them; the answer as a `reply`."""
        return self._decode(self._request("POST", path, chunks, _SEND_TIMEOUT), reply)

    def stream(self, path: str, message: msgspec.Struct) -> Iterator[bytes]:
        """POST `message`; the lines of the answer, without their ends, each as soon as it is there.

        Raises `Unreachable` where the stream stops in the middle.
        """
        return _lines(self.raw(path, message), self._cut)

    def raw(self, path: str, message: msgspec.Struct) -> Iterator[bytes]:
        """POST `message`; the bytes of the answer as they come. Raises as `stream`."""
        body = msgspec.json.encode(message)
        return self._request("POST", path, [body], None, len(body))

    # One request

    def _request(
        self,
        method: str,
        path: str,
        chunks: Iterable[bytes],
        timeout: float | None,
        length: int | None = None,
    ) -> Iterator[bytes]:
        """Send a request and read the head of its answer; reading the iterator reads the body."""
        self.connect()
        headers = [("Host", "rised"), ("Rised-Api", str(API_VERSION))]
        if method == "POST":
            headers.append(
                (
                    "Content-Type",
                    "application/json" if length is not None else "application/octet-stream",
                )
            )
            headers.append(
                ("Transfer-Encoding", "chunked")
                if length is None
                else ("Content-Length", str(length))
            )
        try:
            if self._write(h11.Request(method=method, target=path, headers=headers)):
                for chunk in chunks:
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
        self._check_version(dict(event.headers).get(_HEADER))
        body = self._body(timeout)
        if event.status_code >= 400:
            self._raise_problem(event.status_code, b"".join(body))
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

    def _raise_problem(self, status: int, data: bytes) -> NoReturn:
        try:
            problem = msgspec.json.decode(data, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._nonsense(f"status {status} with {data[:60]!r}")
        raise from_code(problem.code, problem.error)

    def _check_version(self, version: bytes | None) -> None:
        if version == str(API_VERSION).encode():
            return
        theirs = (
            f"version {version.decode('ascii', 'replace')}"
            if version
            else "no version that it names"
        )
        raise DaemonError(
            f"the daemon at {self.path} speaks {theirs} of the API, this riseml {VERSION} speaks "
            f"version {API_VERSION}; restart the daemon{self._how_to_restart()}, "
            "or install the riseml that fits it"
        )

    def _nonsense(self, what: str) -> NoReturn:
        how = self._how_to_restart()
        self.close()
        raise DaemonError(
            f"what listens at {self.path} does not answer like rised ({what}); "
            f"restart the daemon{how}, or name its socket with --host"
        )

    def _how_to_restart(self) -> str:
        if self.path == SYSTEM_SOCKET:
            return " (systemctl restart rised)"
        if not self._socket:
            return ""
        peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", peer)[0]
        return (
            f" (kill {pid}; the next riseml command starts your own one again)" if pid > 1 else ""
        )

    def _cut(self) -> NoReturn:
        self.close()
        raise Unreachable(
            f"the daemon at {self.path} hung up in the middle of an answer; try again, and if it "
            "happens again, its log tells why"
        )

    # Bytes

    def connect(self) -> None:
        """Make sure that there is a connection. Raises `DaemonError`, of which `Unreachable`."""
        if self._http.our_state is self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        idle = self._http.our_state is h11.IDLE
        if self._socket and idle and not select.select([self._socket], [], [], 0)[0]:
            return  # readable would mean that the daemon has closed it meanwhile
        self.close()
        self._http = h11.Connection(h11.CLIENT)
        path = os.fsencode(self.path)
        if len(path) > _LONGEST_PATH:
            raise DaemonError(
                f"{self.path}: a socket's path may have {_LONGEST_PATH} bytes, "
                f"this one has {len(path)}; use a shorter one"
            )
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # The kernel heeds it in connect() too, where Python's own timeout fails at once if the
        # queue is full.
        limit = struct.pack("ll", int(self._timeout), int(self._timeout % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            raise _no_connection(self.path, error) from None
        self._socket = connection

    def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bool:
        """Send `event`. False: no need to go on, the daemon has answered already or is gone."""
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
        """The next event of the answer; `timeout` is for each piece of it."""
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
        how = self._how_to_restart()
        self.close()
        raise DaemonError(
            f"the daemon at {self.path} gives no answer for {timeout:g} s; try again, "
            f"and if it stays silent, restart it{how}: running jobs go on"
        )


def _lines(body: Iterator[bytes], cut: Callable[[], NoReturn]) -> Iterator[bytes]:
    rest = b""
    for data in body:
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        cut()


def _no_connection(path: str, error: OSError) -> DaemonError:
    system = path == SYSTEM_SOCKET
    if isinstance(error, PermissionError):
        return DaemonError(f"you may not use the daemon at {path}; {_membership(path)}")
    start = "systemctl start rised" if system else f"rised --socket {path}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreachable(f"there is no daemon at {path}; start it: {start}")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"the daemon at {path} does not run any more; start it: {start}")
    if isinstance(error, BlockingIOError):
        return Unreachable(f"the daemon at {path} takes no more connections; try again in a moment")
    return DaemonError(
        f"{path}: {error.strerror}; name the daemon's socket with --host unix:///path"
    )


def _membership(path: str) -> str:
    import grp

    try:
        found = os.stat(path)
        group = grp.getgrgid(found.st_gid).gr_name
    except (OSError, KeyError):
        return "ask who runs it for permission"
    if not found.st_mode & stat.S_IWGRP:
        return "it serves its own user alone"
    return f"ask who runs it to add you to the group {group}, then log in again"
