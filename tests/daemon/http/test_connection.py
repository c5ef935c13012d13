"""A connection's law: whatever the peer does, it gets an answer in our form or is dropped, and nobody else notices."""

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import h11
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from rised.http import connection
from rised.http.connection import Connection
from rised.http.connection_limit import ConnectionLimiter
from rised.http.request import Answer, Request, Send, Streamed
from rised.log import KeyValueFormatter
from rised.users.peer import Peer
from riseml_proto import API_VERSION
from riseml_proto.errors import InvalidInput, NotFound
from riseml_proto.messages import Kill, Killed, Problem, Whoami

PEER = Peer(1, 1000, 1000, "paul")
GET = b"GET /who HTTP/1.1\r\nHost: rised\r\n\r\n"


class Reply(NamedTuple):
    """One answer as an h11 client sees it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def problem(self) -> Problem:
        return msgspec.json.decode(self.body, type=Problem)


class Seen:
    """What the handler saw."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.streaming = trio.Event()
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []


def handler(seen: Seen) -> Callable[[Request], Awaitable[Answer | Streamed]]:
    """One of each kind of handler."""

    async def endless(send: Send) -> None:
        try:
            while True:
                await send(b"x" * 65536)
                seen.streaming.set()
        except trio.Cancelled:
            seen.cancelled.set()
            raise

    async def silent(send: Send) -> None:
        await send(b"{}\n")
        seen.streaming.set()
        try:
            await trio.sleep_forever()
        finally:
            seen.cancelled.set()

    async def short(send: Send) -> None:
        for _ in range(3):
            await send(b"line\n")
            await trio.testing.wait_all_tasks_blocked()

    async def broken(send: Send) -> None:
        await send(b"line\n")
        raise ZeroDivisionError

    async def refused(send: Send) -> None:
        await send(b"line\n")
        raise NotFound("its log is gone")

    streams = {
        "/endless": endless,
        "/silent": silent,
        "/short": short,
        "/broken": broken,
        "/refused": refused,
    }

    async def handle(request: Request) -> Answer | Streamed:
        if request.path in streams:
            return Streamed(streams[request.path])
        if request.path == "/body":
            body = b"".join([piece async for piece in request.body()])
            seen.bodies.append(body)
            return Answer(Whoami(user="paul", uid=len(body), host=""))
        if request.path == "/kill":
            asked = await request.message(Kill)
            return Answer(Killed(killed=asked.ids, ended=[]))
        if request.path == "/headers":
            seen.headers.append(dict(request.headers))
        if request.path == "/refuse":
            raise InvalidInput("not like this")
        if request.path == "/bug":
            raise ZeroDivisionError
        if request.path == "/large":
            return Answer(Whoami(user="p" * 10_000_000, uid=0, host=""))
        return Answer(Whoami(user=request.peer.user, uid=request.peer.uid, host=request.path))

    return handle


class World:
    """A served connection, and its other end."""

    def __init__(self, stream: trio.SocketStream, seen: Seen, done: trio.Event) -> None:
        self.stream = stream
        self.seen = seen
        self.done = done
        self.http = h11.Connection(h11.CLIENT)
        self.early = b""

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()

    async def send_until_dropped(self, piece: bytes, pause: float = 0) -> None:
        """Send and send, until the other end has closed."""
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await self.stream.send_all(piece)
                await trio.sleep(pause)

    async def seen_head(self) -> None:
        """Read until the answer has begun."""
        while b"line" not in self.early:
            self.early += await self.stream.receive_some()

    async def rest(self) -> bytes:
        """All that comes until the other end closes."""
        data = b""
        try:
            while piece := await self.stream.receive_some():
                data += piece
        except trio.BrokenResourceError:  # closed with something of ours unread
            pass
        return data

    async def reply(self) -> Reply:
        response = await self._event()
        while isinstance(response, h11.InformationalResponse):
            response = await self._event()
        assert isinstance(response, h11.Response), response
        body = b""
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        return Reply(response.status_code, dict(response.headers), body)

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
        """A whole request and its answer; the connection is kept."""
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()
        given = {"Host": "rised", **headers}
        if body and "Transfer_Encoding" not in headers:
            given["Content-Length"] = str(len(body))
        pairs = [(name.replace("_", "-"), value) for name, value in given.items()]
        data = self.http.send(h11.Request(method=method, target=target, headers=pairs)) or b""
        if body:
            data += self.http.send(h11.Data(data=body)) or b""
        data += self.http.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(data)
        return await self.reply()

    async def _event(self) -> Any:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.stream.receive_some())
        return event


@asynccontextmanager
async def served(room: ConnectionLimiter | None = None) -> AsyncIterator[World]:
    """A connection to a server of its own. The server must end by itself, and raise nothing."""
    ours, theirs = (trio.socket.from_stdlib_socket(end) for end in socket.socketpair())
    seen, done = Seen(), trio.Event()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await Connection(
                trio.SocketStream(theirs), PEER, handler(seen), room or ConnectionLimiter(1)
            ).serve()
            done.set()

        nursery.start_soon(serve)
        async with trio.SocketStream(ours) as stream:
            yield World(stream, seen, done)
        with trio.fail_after(3600):  # of the mock clock
            await done.wait()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run `test` on a clock that jumps as soon as everybody waits."""
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def talk(*pieces: bytes, end: bool = False) -> list[Reply]:
    """Send `pieces`, then close our direction if `end`; every reply until the server closes."""
    replies: list[Reply] = []

    async def main() -> None:
        async with served() as world:
            await world.send(*pieces)
            if end:
                await world.stream.send_eof()
            replies.extend(parse(await world.rest()))

    run(main)
    return replies


def parse(data: bytes) -> list[Reply]:
    """The replies that `data` consists of."""
    replies = []
    while data:
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        http.send(h11.EndOfMessage())
        http.receive_data(data)
        http.receive_data(b"")
        head: Any = http.next_event()
        while isinstance(head, h11.InformationalResponse):
            head = http.next_event()
        body = b""
        while isinstance(event := http.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), event
        replies.append(Reply(head.status_code, dict(head.headers), body))
        data = http.trailing_data[0]
    return replies


def test_a_connection_serves_any_number_of_requests() -> None:
    async def main() -> None:
        async with served() as world:
            for number in range(100):
                reply = await world.ask("GET", f"/{number}")
                assert msgspec.json.decode(reply.body)["host"] == f"/{number}"

    run(main)


def test_a_handler_sees_the_headers_with_names_in_lower_case() -> None:
    async def main() -> None:
        async with served() as world:
            await world.send(
                b"GET /headers HTTP/1.1\r\nHost: rised\r\nX-Riseml-Token:  a b \r\nAccept: text/html\r\n"
                b"ACCEPT: */*\r\nX-Name: p\xe4ul\r\n\r\n",
                b"GET /headers HTTP/1.1\r\nHost: rised\r\n\r\n",
            )
            await world.stream.send_eof()
            assert [reply.status for reply in parse(await world.rest())] == [200, 200]
            assert world.seen.headers == [
                {
                    "host": "rised",
                    "x-riseml-token": "a b",
                    "accept": "text/html, */*",
                    "x-name": "p\xe4ul",
                },
                {"host": "rised"},
            ]

    run(main)


def test_an_unread_body_ends_the_connection_after_the_answer_and_says_so() -> None:
    async def main() -> None:
        async with served() as world:
            reply = await world.ask("POST", "/who", b"x" * 1000)
            assert reply.status == 200
            assert reply.headers[b"connection"] == b"close"
            await world.done.wait()

    run(main)


def test_a_get_without_a_body_keeps_the_connection_whatever_the_answer() -> None:
    async def main() -> None:
        async with served() as world:
            for target, status in (("/refuse", 400), ("/bug", 500), ("/short", 200), ("/who", 200)):
                assert (await world.ask("GET", target)).status == status

    run(main)


def test_pipelined_requests_are_answered_in_their_order() -> None:
    requests = [f"GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for n in range(50)]
    replies = talk(b"".join(requests), end=True)
    assert [msgspec.json.decode(r.body)["host"] for r in replies] == [f"/{n}" for n in range(50)]


def test_a_request_that_comes_while_a_stream_is_answered_does_not_cut_the_stream() -> None:
    async def main() -> None:
        async with served() as world:
            await world.stream.send_all(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
            await world.seen_head()
            await world.stream.send_all(GET.replace(b"1.1\r\n", b"1.1\r\nConnection: close\r\n"))
            stream, who = parse(world.early + await world.rest())
            assert stream.body == b"line\n" * 3
            assert msgspec.json.decode(who.body)["user"] == "paul"

    run(main)


def test_a_peer_that_sends_on_and_on_while_a_stream_is_answered_is_dropped() -> None:
    async def main() -> None:
        async with served() as world:
            await world.stream.send_all(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
            await world.send_until_dropped(b"x" * 10000)
            await world.seen.cancelled.wait()

    run(main)


def test_every_answer_names_the_version_of_the_api() -> None:
    for target in ("/who", "/refuse", "/bug", "/short"):
        (reply,) = talk(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert reply.headers[b"rised-api"] == str(API_VERSION).encode()
    (reply,) = talk(b"nonsense\r\n\r\n")
    assert reply.headers[b"rised-api"] == str(API_VERSION).encode()


def test_a_body_is_asked_for_where_the_peer_waits_to_be_asked() -> None:
    async def main() -> None:
        async with served() as world:
            await world.send(
                b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await world.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await world.send(b"body")
            (reply,) = parse(await world.stream.receive_some())
            assert reply.status == 200
            assert world.seen.bodies == [b"body"]

    run(main)


def test_a_body_is_not_asked_for_where_nobody_wants_it() -> None:
    head = b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    (reply,) = talk(head)
    assert reply.problem == Problem(error="not like this", code="invalid")


@given(st.lists(st.binary(min_size=1), max_size=5), st.data())
@settings(max_examples=50)
def test_requests_mean_the_same_wherever_the_network_cuts_them(
    bodies: list[bytes], data: st.DataObject
) -> None:
    text = b""
    for number, body in enumerate(bodies):
        if number % 2:
            chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
            text += b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            text += chunks + b"0\r\n\r\n"
        else:
            text += b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            text += body
        text += GET
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    replies = talk(*(piece for piece in pieces if piece), end=True)
    assert [r.status for r in replies] == [200] * 2 * len(bodies)
    assert [msgspec.json.decode(r.body)["uid"] for r in replies[::2]] == [len(b) for b in bodies]


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET /who\r\n\r\n",
        b"GET /who HTTP/1.1\r\n\r\n",
        b"GET /who HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /who HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /who HTTP/1.1\r\nHost: a\r\nCookie: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /who HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    ],
)
def test_what_is_not_http_gets_one_problem_and_is_dropped(data: bytes) -> None:
    (reply,) = talk(data)
    assert 400 <= reply.status < 500 or reply.status == 501
    assert reply.problem.code == "invalid"
    assert "HTTP/1.1 as rised speaks it" in reply.problem.error


def test_a_head_that_is_too_long_is_told_so() -> None:
    (reply,) = talk(b"GET /who HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 100_000)
    assert reply.status == 431


@given(st.binary())
@settings(max_examples=100)
def test_no_bytes_can_make_a_connection_raise(data: bytes) -> None:
    talk(data, end=True)
    talk(b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data, end=True)


def test_a_peer_that_says_nothing_and_closes_gets_nothing() -> None:
    assert talk(end=True) == []


@pytest.mark.parametrize(
    "half", [b"GE", GET[:-2], b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbo"]
)
def test_half_a_request_and_then_the_end_is_a_problem(half: bytes) -> None:
    (reply,) = talk(half, end=True)
    assert reply.status == 400
    assert reply.problem.code == "invalid"


@pytest.mark.parametrize(
    "half", [b"GE", GET[:-2], b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbo"]
)
def test_half_a_request_and_then_silence_is_dropped_in_time(half: bytes) -> None:
    async def main() -> None:
        async with served() as world:
            begin = trio.current_time()
            await world.stream.send_all(half)
            (reply,) = parse(await world.rest())
            assert reply.status == 408
            assert reply.problem.code == "invalid"
            assert trio.current_time() - begin == pytest.approx(connection.PATIENCE)

    run(main)


def test_a_connection_may_idle_between_requests_for_as_long_as_it_likes() -> None:
    async def main() -> None:
        async with served() as world:
            for _ in range(3):
                assert (await world.ask("GET", "/who")).status == 200
                await trio.sleep(1000 * connection.PATIENCE)

    run(main)


def test_a_head_that_dribbles_in_is_dropped_in_time_too() -> None:
    async def main() -> None:
        async with served() as world:
            await world.send(b"GET / HTTP/1.1\r\nA: ")
            await world.send_until_dropped(b"a", pause=connection.PATIENCE / 100)

    run(main)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"not json", "invalid"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"ids": "144"}', "Expected `array`, got `str` - at `$.ids`"),
        (b'{"ids": [144]}', "Expected `str`, got `int` - at `$.ids[0]`"),
        (b'{"ids": [], "user": "root"}', "unknown field `user`"),
        (b'{"ids": []} {}', "trailing"),
        (b'{"ids": ["\\ud800"]}', ""),
        (b'{"ids": ' + b"[" * 100_000, ""),
        (b'{"ids": [], "x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", ""),
        (b'{"ids": ["' + b"1" * (1 << 20) + b'"]}', "longer than 1048576 bytes"),
    ],
)
def test_a_body_that_is_no_message_is_told_why(body: bytes, text: str) -> None:
    async def main() -> None:
        async with served() as world:
            reply = await world.ask("POST", "/kill", body or b" ")
            assert reply.status == 400
            assert reply.problem.code == "invalid"
            assert text.lower() in reply.problem.error.lower()

    run(main)


def test_a_body_larger_than_allowed_is_not_read_to_its_end() -> None:
    async def main() -> None:
        async with served() as world:
            await world.stream.send_all(
                b"POST /kill HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            await world.send_until_dropped(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            assert "longer than" in parse(await world.rest())[0].problem.error

    run(main)


@pytest.mark.parametrize("method", ["OPTIONS", "DELETE", "PUT", "NONSENSE"])
def test_any_method_gets_an_answer(method: str) -> None:
    (reply,) = talk(f"{method} /refuse HTTP/1.1\r\nHost: a\r\n\r\n".encode(), end=True)
    assert reply.status == 400


def test_head_gets_a_head_and_the_connection_lives() -> None:
    async def main() -> None:
        async with served() as world:
            for _ in range(2):
                reply = await world.ask("HEAD", "/refuse")
                assert (reply.status, reply.body) == (400, b"")

    run(main)


def test_an_upgrade_is_answered_as_if_nobody_had_asked_for_it() -> None:
    head = b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    (reply,) = talk(head, end=True)
    assert reply.status == 200
    (reply,) = talk(b"CONNECT /refuse HTTP/1.1\r\nHost: a\r\n\r\n", end=True)
    assert reply.status == 400


def test_a_fault_of_ours_is_a_problem_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    (reply,) = talk(b"GET /bug HTTP/1.1\r\nHost: a\r\n\r\n", end=True)
    assert reply.status == 500
    assert reply.problem.code == "error"
    assert "Traceback" not in reply.problem.error
    assert "ZeroDivisionError" in KeyValueFormatter().format(caplog.records[-1])


@pytest.mark.parametrize("target", ["/broken", "/refused"])
def test_a_stream_that_fails_stops_without_its_end_and_is_logged(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with served() as world:
            await world.stream.send_all(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            data = await world.rest()
            assert b"line\n" in data
            assert not data.endswith(b"0\r\n\r\n")  # which would tell the client that it was whole

    run(main)
    assert caplog.messages == ["stream broken off"]


@pytest.mark.parametrize("target", ["/endless", "/large"])
def test_a_peer_that_stops_reading_is_dropped_in_time(target: str) -> None:
    async def main() -> None:
        async with served() as world:
            begin = trio.current_time()
            await world.stream.send_all(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await world.done.wait()
            assert trio.current_time() - begin == pytest.approx(connection.PATIENCE)

    run(main)


def test_a_peer_that_reads_slowly_gets_all_of_it() -> None:
    async def main() -> None:
        async with served() as world:
            await world.stream.send_all(
                b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            data = b""
            while piece := await world.stream.receive_some(1 << 18):
                data += piece
                await trio.sleep(connection.PATIENCE * 0.9)
            assert len(parse(data)[0].body) > 10_000_000

    run(main)


@pytest.mark.parametrize("target", ["/endless", "/silent"])
def test_a_peer_that_hangs_up_in_the_middle_of_a_stream_cancels_it(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with served() as world:
            await world.stream.send_all(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await world.seen.streaming.wait()
            await world.stream.aclose()
            await world.done.wait()

    run(main)
    assert caplog.messages == []  # it is no fault that anyone should look at


def test_a_peer_that_is_gone_before_its_answer_hurts_nobody() -> None:
    async def main() -> None:
        for target in ("/who", "/bug", "/short", "/large", "/endless"):
            async with served() as world:
                await world.stream.send_all(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                await world.stream.aclose()
                await world.done.wait()

    run(main)


def test_shutdown_does_not_wait_for_anybody() -> None:
    async def main() -> None:
        with trio.move_on_after(1) as scope:
            async with served() as idle, served() as half, served() as deaf:
                await idle.ask("GET", "/who")
                await half.stream.send_all(b"POST /body HTTP/1.1\r\nHost: a\r\n")
                await deaf.stream.send_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
                await deaf.seen.streaming.wait()
                scope.cancel()
                begin = trio.current_time()
                await trio.sleep_forever()
        assert trio.current_time() == begin

    run(main)


def test_where_all_places_are_taken_the_one_that_idled_longest_makes_room() -> None:
    async def main() -> None:
        room = ConnectionLimiter(2)
        async with served(room) as first, served(room) as second:
            await first.ask("GET", "/who")
            await second.ask("GET", "/who")
            await first.ask("GET", "/who")
            async with served(room) as third:
                assert (await third.ask("GET", "/who")).status == 200
                assert await second.rest() == b""
                assert (await first.ask("GET", "/who")).status == 200

    run(main)


def test_where_nobody_idles_a_new_one_is_turned_away_until_one_goes() -> None:
    async def main() -> None:
        room = ConnectionLimiter(1)
        async with served(room) as first:
            await first.stream.send_all(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
            await first.seen.streaming.wait()
            async with served(room) as second:
                reply = await second.ask("GET", "/who")
                assert (reply.status, reply.problem.code) == (503, "daemon")
                await second.done.wait()
            assert not first.done.is_set()
        async with served(room) as third:
            assert (await third.ask("GET", "/who")).status == 200

    run(main)
