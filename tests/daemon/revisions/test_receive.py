"""Blobs come in whole or not at all, however the network cuts them and whenever it breaks."""

import hashlib
import itertools
import os
import subprocess
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rised.revisions import Revisions
from rised.revisions.receive import FrameParser
from riseml_proto.errors import SyncError

LIMIT = 1 << 20


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def frame(content: bytes) -> bytes:
    return b"%s %d\n" % (blob_id(content).encode(), len(content)) + content


async def pieces(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def receive(state: Path, chunks: Sequence[bytes], *, limit: int = LIMIT) -> int:
    revisions = Revisions(str(state), max_files=100, max_bytes=limit)
    return trio.run(revisions.receive, "paul", "p", pieces(chunks))


def objects(state: Path) -> dict[str, bytes]:
    """Every loose object by its id; nothing else may be there."""
    root = state / "repositories/paul/p.git/objects"
    assert {p.name for p in root.iterdir() if len(p.name) != 2} == {"info", "pack"}
    files = [p for p in root.glob("??/*") if p.is_file()]
    return {p.parent.name + p.name: zlib.decompress(p.read_bytes()) for p in files}


class Recorder:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.blobs: list[tuple[str, int, bytes]] = []

    def begin(self, oid: str, size: int) -> None:
        self.oid, self.size, self.content = oid, size, b""

    def write(self, data: memoryview) -> None:
        self.content += data

    def end(self) -> None:
        self.blobs.append((self.oid, self.size, self.content))


@given(st.lists(st.binary(max_size=200), max_size=6), st.lists(st.integers(0, 1500), max_size=30))
def test_a_body_means_the_same_wherever_it_is_cut(blobs: list[bytes], cuts: list[int]) -> None:
    body = b"".join(map(frame, blobs))
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    sink = Recorder()
    frames = FrameParser(sink, LIMIT)
    for start, stop in itertools.pairwise(at):
        frames.feed(body[start:stop])
    frames.close()
    assert sink.blobs == [(blob_id(content), len(content), content) for content in blobs]
    assert frames.count == len(blobs)


@given(st.binary(max_size=50), st.integers(0, 10_000))
def test_a_body_that_ends_early_is_refused_wherever_that_is(content: bytes, cut: int) -> None:
    body = frame(content)
    frames = FrameParser(Recorder(), LIMIT)
    frames.feed(body[: 1 + cut % (len(body) - 1)])
    with pytest.raises(SyncError, match="sync again"):
        frames.close()


def test_objects_are_what_git_would_have_written(tmp_path: Path) -> None:
    contents = [b"", b"x", os.urandom(700_000)]
    assert receive(tmp_path, [b"".join(map(frame, contents))]) == 3
    stored = objects(tmp_path)
    assert stored == {blob_id(c): b"blob %d\0" % len(c) + c for c in contents}
    repository = str(tmp_path / "repositories/paul/p.git")
    command = ["git", "-c", "safe.directory=*", "-C", repository, "cat-file", "blob"]
    shown = subprocess.run([*command, blob_id(contents[2])], check=True, capture_output=True)
    assert shown.stdout == contents[2]


def test_receiving_a_blob_again_changes_nothing(tmp_path: Path) -> None:
    assert receive(tmp_path, [frame(b"x") + frame(b"x")]) == 2
    before = objects(tmp_path)
    assert receive(tmp_path, [frame(b"x")]) == 1
    assert objects(tmp_path) == before


GOOD = frame(b"good")


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (b"%s 3\nbad" % blob_id(b"else").encode(), "is another"),
        (b"GET / HTTP/1.1\r\n", "where a blob's id"),
        (b"\0" * 500, "where a blob's id"),
        (b"%s -1\n" % (b"0" * 40), "where a blob's id"),
        (b"%s 01\nx" % (b"0" * 40), "where a blob's id"),
        (b"%s 1" % (b"0" * 40), "broke off"),
        (frame(b"short")[:-1], "broke off"),
        (b"%s %d\n" % (b"0" * 40, LIMIT + 1), "1,048,576 bytes allowed"),
        (frame(bytes(LIMIT)), "1,048,576 bytes allowed"),
    ],
)
def test_what_is_no_blob_is_refused_and_what_came_before_stays(
    tmp_path: Path, bad: bytes, text: str
) -> None:
    with pytest.raises(SyncError, match=text):
        receive(tmp_path, [GOOD, bad])
    assert list(objects(tmp_path)) == [blob_id(b"good")]


def test_a_broken_connection_leaves_what_came_whole_and_nothing_else(tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield GOOD + frame(bytes(1000))[:500]
        raise trio.BrokenResourceError

    revisions = Revisions(str(tmp_path), max_files=100, max_bytes=LIMIT)
    with pytest.raises(trio.BrokenResourceError):
        trio.run(revisions.receive, "paul", "p", breaking())
    assert list(objects(tmp_path)) == [blob_id(b"good")]


def test_a_client_that_stops_sending_can_be_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = Revisions(str(tmp_path), max_files=100, max_bytes=LIMIT)
        with trio.CancelScope() as scope:

            async def stalling() -> AsyncIterator[bytes]:
                yield GOOD + frame(os.urandom(400_000))[:300_000]
                scope.cancel()
                await trio.sleep_forever()

            await revisions.receive("paul", "p", stalling())
        assert scope.cancelled_caught

    trio.run(main)
    assert list(objects(tmp_path)) == [blob_id(b"good")]


def test_what_a_dead_daemon_left_half_received_is_swept(tmp_path: Path) -> None:
    receive(tmp_path, [GOOD])
    left = tmp_path / "repositories/paul/p.git/objects/tmp_rised_0123"
    left.write_bytes(b"half")
    receive(tmp_path, [])
    assert not left.exists()
    assert list(objects(tmp_path)) == [blob_id(b"good")]


def test_many_uploads_at_once_do_not_meet(tmp_path: Path) -> None:
    contents = [b"%d" % n for n in range(300)]

    async def main() -> None:
        revisions = Revisions(str(tmp_path), max_files=100, max_bytes=LIMIT)
        async with trio.open_nursery() as nursery:
            for start in range(4):
                body = list(map(frame, contents[start * 50 : start * 50 + 150]))
                nursery.start_soon(revisions.receive, "paul", "p", pieces(body))

    trio.run(main)
    assert objects(tmp_path).keys() == {blob_id(c) for c in contents}
