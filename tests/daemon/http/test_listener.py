"""The socket's law: one daemon behind it, it always listens, and the kernel says who is at the other end."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from rised.http.listener import listening, peer_of, prepare_directory, serve
from rised.http.request import Answer, Request
from rised.users.peer import user_name
from riseml_proto.errors import DaemonError
from riseml_proto.messages import Whoami


@pytest.fixture
def place() -> Iterator[Path]:
    """A socket's path; short, as it must be."""
    with tempfile.TemporaryDirectory(prefix="riseml-") as directory:
        yield Path(directory) / "s"


def test_the_directory_is_made_for_its_owner_alone(place: Path) -> None:
    prepare_directory(str(place.parent / "a" / "b" / "s"))
    assert (place.parent / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(place: Path, mode: int) -> None:
    place.parent.chmod(mode)
    with pytest.raises(DaemonError, match="nobody else may write to"):
        prepare_directory(str(place))


def test_a_path_must_fit_into_the_kernels_address(place: Path) -> None:
    room = 107 - len(".new") - len(str(place.parent)) - 1
    longest = str(place.parent / ("x" * room))
    prepare_directory(longest)
    with listening(longest):
        pass
    with pytest.raises(DaemonError, match="too long"):
        prepare_directory(longest + "x")


def test_what_lies_there_and_is_no_socket_is_left_alone(place: Path) -> None:
    place.write_text("precious")
    with pytest.raises(DaemonError, match="is no socket"):
        prepare_directory(str(place))
    assert place.read_text() == "precious"


def test_a_socket_left_by_the_dead_is_replaced_and_gone_at_the_end(place: Path) -> None:
    for left in (place, place.with_suffix(".new")):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
    prepare_directory(str(place))
    with listening(str(place)):
        assert place.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
        assert sorted(os.listdir(place.parent)) == ["s"]
    assert os.listdir(place.parent) == []


def test_the_kernel_says_who_is_at_the_other_end(place: Path) -> None:
    async def handle(request: Request) -> Answer:
        return Answer(
            Whoami(user=request.peer.user, uid=request.peer.uid, host=str(request.peer.pid))
        )

    async def main() -> None:
        with listening(str(place)) as listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, listener, handle, 10, nursery)
                async with await trio.open_unix_socket(place) as client:
                    await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-User: eve\r\n\r\n")
                    answer = bytes(await client.receive_some())
                assert f'"uid":{os.getuid()}'.encode() in answer
                assert f'"user":"{user_name(os.getuid())}"'.encode() in answer
                assert f'"host":"{os.getpid()}"'.encode() in answer
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_peer_is_known_even_when_it_has_gone(place: Path) -> None:
    async def main() -> None:
        ours, theirs = (trio.socket.from_stdlib_socket(end) for end in socket.socketpair())
        theirs.close()
        assert peer_of(ours).uid == os.getuid()
        ours.close()

    trio.run(main)


def test_a_user_without_an_entry_has_a_name_all_the_same() -> None:
    assert user_name(0) == "root"
    assert user_name(4_000_000_000) == "uid-4000000000"
