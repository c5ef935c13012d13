"""Whatever listens at the socket, the client gives the answer or an error that says what to do."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from riseml.ssh.host import SshHost
from riseml.transport.address import SshAddress
from riseml.transport.http import Client
from riseml.transport.unix import UnixSocket
from riseml_proto import API_VERSION, VERSION
from riseml_proto.default_socket import SYSTEM_SOCKET
from riseml_proto.errors import ConfigError, DaemonError, NotFound, RisemlError, Unreachable
from riseml_proto.messages import Kill, Killed, Revision, Whoami

WHO = b'{"user": "paul", "uid": 1000, "host": "box"}'
KILL = Kill(ids=["144"])


def whoami(path: str, timeout: float = 10) -> Whoami:
    with Client(path, timeout=timeout) as client:
        return client.get("/v1/whoami", Whoami)


def test_an_answer_becomes_the_message(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(WHO)]
    assert whoami(daemon.path) == Whoami(user="paul", uid=1000, host="box")
    assert daemon.requests[0][:2] == ("GET", "/v1/whoami")


def test_requests_share_a_connection(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(WHO, b'{"killed": ["144"], "ended": []}')]
    with Client(daemon.path) as client:
        client.connect()
        client.get("/v1/whoami", Whoami)
        assert client.post("/v1/kill", KILL, Killed, patient=True).killed == ["144"]
    assert daemon.requests[1].body == b'{"ids":["144"],"project":null,"force":false}'


def test_a_connection_that_the_daemon_closed_meanwhile_is_replaced(daemon: Any) -> None:
    closed = threading.Event()

    def answer_and_close(connection: socket.socket) -> None:
        daemon.says(b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\nContent-Length: 44\r\n\r\n" + WHO)(
            connection
        )
        connection.close()
        closed.set()

    assert len(WHO) == 44
    daemon.scripts = [answer_and_close, daemon.answers(WHO)]
    with Client(daemon.path) as client:
        client.get("/v1/whoami", Whoami)
        assert closed.wait(10)
        client.get("/v1/whoami", Whoami)


def test_the_daemons_problem_is_raised_as_its_class(daemon: Any) -> None:
    daemon.scripts = [
        daemon.answers(b'{"error": "no 9; riseml status", "code": "not-found"}', status=404),
        daemon.answers(b'{"error": "riseml.yml:7: bad", "code": "config"}', status=422),
        daemon.answers(b'{"error": "new", "code": "of-the-future"}', status=418),
    ]
    with pytest.raises(NotFound, match=r"^no 9; riseml status$"):
        whoami(daemon.path)
    with pytest.raises(ConfigError, match=r"^riseml\.yml:7: bad$"):
        whoami(daemon.path)
    with pytest.raises(RisemlError, match=r"^new$"):
        whoami(daemon.path)


HEAD = b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"220 smtp.example ESMTP ready\r\n",
        b"\x00\x01\x02\xff\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nhello",
        HEAD + b"Content-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\n\r\n\xff\xff",
        HEAD + b"Content-Length: oops\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"HTTP/1.1 500 Oops\r\nRised-Api: 2\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_nonsense_is_an_error_that_says_to_restart_the_daemon(daemon: Any, answer: bytes) -> None:
    daemon.scripts = [daemon.says(answer)]
    with pytest.raises(DaemonError, match="restart the daemon") as caught:
        whoami(daemon.path)
    assert not isinstance(caught.value, Unreachable)
    assert str(os.getpid()) in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200", HEAD + b"Content-Length: 44\r\n\r\n" + WHO[:20], HEAD + b"Content-Le"],
)
def test_an_answer_that_stops_in_the_middle_is_told_as_that(daemon: Any, answer: bytes) -> None:
    daemon.scripts = [daemon.says(answer)]
    with pytest.raises(Unreachable, match="in the middle of an answer"):
        whoami(daemon.path)


@pytest.mark.parametrize(
    ("headers", "way_out"),
    [
        ("Rised-Api: 7", "this riseml is the older one; type here: pip install --upgrade rised"),
        (
            "Rised-Api: 7\r\nServer: rised/1.4.0",
            "this riseml is the older one; type here: pip install --upgrade rised==1.4.0",
        ),
        (
            "Rised-Api: 7\r\nServer: rised/1;rm",
            "this riseml is the older one; type here: pip install --upgrade rised",
        ),
        (
            "Rised-Api: 1\r\nServer: rised/0.0.9",
            f"the daemon is the older one; type here: rised --stop (or kill {os.getpid()}); "
            "the next riseml command starts a new one, and jobs run on",
        ),
    ],
)
def test_another_api_version_is_told_with_what_to_type_on_which_side(
    daemon: Any, headers: str, way_out: str
) -> None:
    daemon.scripts = [daemon.answers(b"{}", headers=headers)]
    with pytest.raises(DaemonError) as caught:
        whoami(daemon.path)
    theirs = headers.split()[1]
    assert str(caught.value) == (
        f"the daemon at {daemon.path} speaks version {theirs} of the API, this riseml {VERSION} "
        f"speaks version {API_VERSION}; {way_out}"
    )


def test_the_machines_daemon_and_one_behind_ssh_are_renewed_in_their_own_ways() -> None:
    assert "systemctl restart rised" in UnixSocket(SYSTEM_SOCKET).how_to_renew(None)
    there = SshHost(SshAddress("gpu-box", "paul"), {}).how_to_renew(None)
    assert there == (
        f"type on gpu-box: pip install --upgrade rised=={VERSION}, then rised --stop; where it "
        f"serves all users: sudo scripts/install-server in a checkout of riseml {VERSION}"
    )


def test_a_silent_daemon_is_given_up(daemon: Any) -> None:
    daemon.scripts = [lambda connection: (daemon.receive(connection), connection.recv(1))]
    # One that is stopped does not heed SIGTERM.
    with pytest.raises(
        DaemonError, match=r"no answer for 0\.05 s; .* restart it \(kill -9 \d+; the next riseml"
    ):
        whoami(daemon.path, timeout=0.05)


def test_a_daemon_that_takes_nothing_is_given_up(daemon: Any) -> None:
    given_up = threading.Event()
    daemon.scripts = [lambda _: given_up.wait(10)]
    with Client(daemon.path, timeout=0.05) as client:
        with pytest.raises(DaemonError, match="no answer"):
            client.send("/v1/objects", [bytes(1 << 20)] * 10, Revision)
        given_up.set()


def test_a_full_queue_of_connections_is_waited_for_no_longer_than_the_timeout(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "busy.sock")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(path)
        busy.listen(0)
        first.connect(path)
        with pytest.raises(Unreachable, match="takes no more connections"):
            whoami(path, timeout=0.05)


def test_no_daemon_says_how_to_start_one(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    with pytest.raises(Unreachable, match=f"no daemon at {path}; start it: rised --socket {path}"):
        whoami(path)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    with pytest.raises(Unreachable, match="does not run any more"):
        whoami(path)


def test_a_path_too_long_for_a_socket_is_told_with_its_length() -> None:
    with pytest.raises(DaemonError, match="may have 107 bytes, this one has 200"):
        whoami("/" + 199 * "x")


def test_a_body_is_sent_in_the_chunks_it_comes_in(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(b'{"revision": "4efd"}')]
    with Client(daemon.path) as client:
        assert client.send("/v1/objects", iter([b"ab", b"", b"cd"]), Revision).revision == "4efd"
    assert daemon.requests == [("POST", "/v1/objects", b"abcd")]


def test_an_early_error_is_reported_instead_of_the_broken_pipe(daemon: Any) -> None:
    answered = threading.Event()

    def refuse(connection: socket.socket) -> None:
        connection.recv(10)
        body = b'{"error": "full; free some", "code": "storage-full"}'
        head = b"HTTP/1.1 507 X\r\nRised-Api: 2\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)
        connection.close()
        answered.set()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        assert answered.wait(10)
        for _ in range(100):
            yield bytes(1 << 16)

    daemon.scripts = [refuse]
    with Client(daemon.path) as client, pytest.raises(RisemlError, match="full; free some"):
        client.send("/v1/objects", chunks(), Revision)


def test_an_early_error_stops_a_body_that_nobody_takes(daemon: Any) -> None:
    done = threading.Event()

    def refuse(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 400 X\r\nRised-Api: 2\r\nContent-Length: 31\r\n\r\n"
            b'{"error":"no","code":"invalid"}'
        )
        done.wait(10)

    daemon.scripts = [refuse]
    with Client(daemon.path) as client:
        with pytest.raises(RisemlError, match=r"^no$"):
            client.send("/v1/objects", (bytes(1 << 20) for _ in range(10_000)), Revision)
        done.set()


def test_lines_of_a_stream_arrive_one_by_one_as_they_are_sent(daemon: Any) -> None:
    seen = threading.Semaphore(0)

    def script(connection: socket.socket) -> None:
        daemon.receive(connection)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in (b"one\n", b"tw", b"o\nthree\n"):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            if piece.endswith(b"\n"):
                assert seen.acquire(timeout=10)
        connection.sendall(b"0\r\n\r\n")

    daemon.scripts = [script]
    with Client(daemon.path) as client:
        lines = []
        for line in client.stream("/v1/logs", KILL):
            lines.append(line)
            if line != b"two":
                seen.release()
    assert lines == [b"one", b"two", b"three"]


def test_a_stream_that_is_cut_gives_its_whole_lines_first(daemon: Any) -> None:
    daemon.scripts = [daemon.says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\none\nhalf\r\n")]
    with Client(daemon.path) as client:
        lines = client.stream("/v1/logs", KILL)
        assert next(lines) == b"one"
        with pytest.raises(Unreachable):
            next(lines)


def test_after_a_stream_that_was_left_the_client_goes_on(daemon: Any) -> None:
    daemon.scripts = [daemon.streams(b"1", b"2", b"3"), daemon.answers(WHO)]
    with Client(daemon.path) as client:
        assert next(client.stream("/v1/logs", KILL)) == b"1"
        assert client.get("/v1/whoami", Whoami).user == "paul"


def test_raw_bytes_come_as_they_are(daemon: Any) -> None:
    daemon.scripts = [daemon.says(HEAD + b"Content-Length: 4\r\n\r\n\x00\r\n\xff")]
    with Client(daemon.path) as client:
        assert b"".join(client.raw("/v1/logs", KILL)) == b"\x00\r\n\xff"
