"""An upload stores what it announced, in whatever pieces it comes, as a whole or not at all."""

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rised.files.beneath import Top
from rised.files.partial_file import hidden_name, size_of
from rised.files.receive import RESUMABLE, Receiver
from rised.files.send import frames
from rised.files.walk import listing, remove
from rised.users.owner import own
from riseml_proto.errors import InvalidInput, RisemlError
from riseml_proto.file_messages import FileInfo, Stored, Wanted
from riseml_proto.uris import parse

URI = parse("data://in")
TIME = datetime(2017, 8, 30, 9, 59, 6, tzinfo=UTC)


def line(stored: Stored) -> bytes:
    return msgspec.json.encode(stored) + b"\n"


def file(path: str, content: bytes, **fields: object) -> bytes:
    return line(Stored(path=path, size=len(content), mtime=TIME, **fields)) + content  # type: ignore[arg-type]


def receiver(top: Path) -> Receiver:
    return Receiver(Top(str(top)), URI, b"", own())


def names(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


BODY = (
    line(Stored(path="dir", type="directory"))
    + file("dir/one", b"first")
    + file("empty", b"")
    + file("run", b"#!/bin/sh\n", executable=True)
    + line(Stored(path="link", type="link", target="dir/one"))
)


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_comes_in_any_pieces_is_stored(tmp_path: Path, cuts: list[int]) -> None:
    top = tmp_path / str(len(list(tmp_path.iterdir())))
    top.mkdir()
    receiving = receiver(top)
    at = 0
    for cut in (*sorted(cuts), len(BODY)):
        receiving.feed(BODY[at:cut])
        at = cut
    receiving.end()
    receiving.close()
    assert receiving.stored == 5
    assert names(top) == ["dir", "dir/one", "empty", "link", "run"]
    assert (top / "link").read_bytes() == b"first"
    assert (top / "run").stat().st_mode & 0o100
    assert (top / "dir" / "one").stat().st_mtime == TIME.timestamp()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"no json\n", "not what it takes"),
        (b"x" * 70_000, "no line that says what follows"),
        (line(Stored(path="../x")), "empty, . or .."),
        (line(Stored(path="x", size=3, offset=4)), "between 0 and its size"),
        (line(Stored(path="x", type="fifo")), "cannot be made a fifo"),
        (line(Stored(path="x", size=3, offset=3, version="v")), "less of it is there"),
        (line(Stored(path="none/x")), "data://in/none/x: there is no such"),
    ],
)
def test_what_cannot_be_stored_is_one_clear_error(tmp_path: Path, body: bytes, text: str) -> None:
    receiving = receiver(tmp_path)
    with pytest.raises(RisemlError) as raised:
        receiving.feed(body)
    assert text in str(raised.value)
    receiving.close()
    assert names(tmp_path) == []


def test_a_small_file_that_was_cut_off_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    receiving = receiver(tmp_path)
    receiving.feed(file("x", b"new content")[:-4])
    with pytest.raises(InvalidInput, match="did not come"):
        receiving.end()
    receiving.close()
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_a_large_file_that_was_cut_off_is_continued(tmp_path: Path) -> None:
    content = os.urandom(RESUMABLE + 10)
    receiving = receiver(tmp_path)
    receiving.feed(file("x", content, version="v1")[:-1000])
    receiving.close()
    folder = Top(str(tmp_path)).find(b"")
    there = size_of(folder, b"x", "v1", own())
    assert there == len(content) - 1000
    assert size_of(folder, b"x", "v2", own()) == 0

    receiving = receiver(tmp_path)
    rest = Stored(path="x", size=len(content), offset=there, version="v1")
    receiving.feed(line(rest) + content[there:])
    receiving.end()
    receiving.close()
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == content


def test_a_new_version_removes_what_an_older_one_left(tmp_path: Path) -> None:
    stale = tmp_path / os.fsdecode(hidden_name(b"x", "v1"))
    other = tmp_path / os.fsdecode(hidden_name(b"y", "v1"))
    stale.touch()
    other.touch()
    receiving = receiver(tmp_path)
    receiving.feed(file("x", bytes(RESUMABLE), version="v2"))
    receiving.end()
    receiving.close()
    assert names(tmp_path) == sorted([other.name, "x"])


def test_two_uploads_of_one_file_do_not_mix(tmp_path: Path) -> None:
    first, second = receiver(tmp_path), receiver(tmp_path)
    body = file("x", bytes(RESUMABLE), version="v")
    first.feed(body[:-1])
    with pytest.raises(InvalidInput, match="being sent already"):
        second.feed(body)
    second.close()
    first.feed(body[-1:])
    first.end()
    first.close()
    assert names(tmp_path) == ["x"]


def test_files_are_sent_as_they_were_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    info = next(listing(Top(str(tmp_path)).find(b"a")))
    wanted = [
        Wanted(path="a", offset=4, version=info.version),
        Wanted(path="a", offset=4, version="another"),
        Wanted(path="none"),
    ]
    body = b"".join(frames(Top(str(tmp_path)), b"", URI, wanted))
    seen = []
    while body:
        head, _, body = body.partition(b"\n")
        sent = msgspec.json.decode(head, type=FileInfo)
        size = 0 if sent.error else sent.size - sent.offset
        seen.append((sent.path, sent.offset, body[:size], bool(sent.error)))
        body = body[size:]
    assert seen == [
        ("a", 4, b"456789", False),
        ("a", 0, b"0123456789", False),
        ("none", 0, b"", True),
    ]


def test_a_tree_is_listed_by_name_and_removed_without_following_links(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "b" / "c").mkdir(parents=True)
    (top / "b" / "c" / "deep").touch()
    (top / "a").touch()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "kept").touch()
    (top / "b" / "link").symlink_to("../../precious")
    handle = Top(str(tmp_path)).find(b"top")
    whole = [info.path for info in listing(handle, recursive=True)]
    assert whole == ["", "a", "b", "b/c", "b/c/deep", "b/link"]
    assert [info.path for info in listing(handle)] == ["", "a", "b"]
    assert [info.path for info in listing(handle, inside=False)] == [""]

    above, name = Top(str(tmp_path)).find_above(b"top")
    with pytest.raises(IsADirectoryError):
        list(remove(above, name, recursive=False))
    assert len(list(remove(above, name, recursive=True))) == 6
    assert names(tmp_path) == ["precious", "precious/kept"]
