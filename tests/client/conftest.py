"""A daemon made of scripts: what its socket does is written down in the test."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h11
import pytest

Script = Callable[[socket.socket], None]

API = "HTTP/1.1 200 OK\r\nRised-Api: 2\r\n"


class Request(NamedTuple):
    """What a client sent."""

    method: str
    target: str
    body: bytes


class FakeDaemon:
    """Plays `scripts`, one for each connection that comes in; the last one as often as needed."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.scripts: list[Script] = []
        self.requests: list[Request] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._errors: list[Exception] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        count = 0
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.scripts[min(count, len(self.scripts) - 1)](connection)
            count += 1

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "a script did not end"

    def receive(self, connection: socket.socket, server: h11.Connection | None = None) -> bool:
        """Read one request and remember it; False where the client hung up instead."""
        server = server or h11.Connection(h11.SERVER)
        head, body = None, b""
        while True:
            event = server.next_event()
            if event is h11.NEED_DATA:
                server.receive_data(connection.recv(65536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head
                self.requests.append(Request(head.method.decode(), head.target.decode(), body))
                return True
            else:
                return False

    def says(self, *answer: bytes) -> Script:
        """A script that reads one request and then sends `answer`, byte for byte, and hangs up."""

        def script(connection: socket.socket) -> None:
            self.receive(connection)
            for piece in answer:
                connection.sendall(piece)

        return script

    def answers(self, *bodies: bytes, status: int = 200, headers: str = "Rised-Api: 2") -> Script:
        """A script that answers request after request on one connection with these bodies."""

        def script(connection: socket.socket) -> None:
            for body in bodies:
                if not self.receive(connection):
                    return
                head = f"HTTP/1.1 {status} X\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
            connection.recv(1)

        return script

    def streams(self, *lines: bytes, cut: bool = False) -> Script:
        """A script that answers with a chunk per line; `cut`: hangs up instead of ending."""
        head = f"{API}Transfer-Encoding: chunked\r\n\r\n".encode()
        chunks = [b"%x\r\n%s\n\r\n" % (len(line) + 1, line) for line in lines]
        return self.says(head, *chunks, b"" if cut else b"0\r\n\r\n")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path / "fake.sock")
    yield fake
    fake.close()
