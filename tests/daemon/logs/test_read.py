"""Logs as lines."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rised.logs import stamps
from rised.logs.lines import LIMIT, Line, Splitter
from rised.logs.raw import raw
from rised.logs.read import LogLines, tail_offset
from rised.logs.stamps import Stamp
from rised.subscriptions import Subscription

TEXTS = st.lists(
    st.sampled_from([b"a", b"\n", b"\r", b"\r\n", "é€😀".encode(), b"\xff", b"x" * (LIMIT - 1)]),
    max_size=12,
).map(b"".join)


def split(*portions: bytes) -> list[tuple[int, bytes, bool]]:
    splitter = Splitter()
    found = []
    for portion in portions:
        splitter.feed(portion)
        while line := splitter.next():
            found.append(line)
    while line := splitter.next(final=True):
        found.append(line)
    return found


def read(log: Path, offset: int = 0, since_ms: int | None = None) -> list[Line]:
    lines = LogLines(str(log), offset, since_ms)
    return list(iter(lambda: lines.next(final=True), None))


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\n\n", [b"a", b""]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"10%\r20%\rdone\n", [b"10%\r20%\rdone"]),
        (b"no end", [b"no end"]),
        (b"a\nno end\r", [b"a", b"no end\r"]),
        (b"x" * LIMIT + b"\r\n", [b"x" * LIMIT]),
        (b"x" * LIMIT + b"y\n", [b"x" * LIMIT, b"y"]),
        (b"x" * (LIMIT - 1) + "é".encode() + b"\n", [b"x" * (LIMIT - 1), "é".encode()]),
        (b"x" * (LIMIT - 1) + b"\rz\r\n", [b"x" * (LIMIT - 1), b"\rz"]),
        (b"\x80" * LIMIT + b"\x80\n", [b"\x80" * LIMIT, b"\x80"]),
    ],
)
def test_lines_end_where_they_should(data: bytes, texts: list[bytes]) -> None:
    assert [text for _, text, _ in split(data)] == texts


@given(TEXTS, st.lists(st.integers(0, 200_000), max_size=6))
@settings(deadline=None)
def test_lines_do_not_depend_on_the_portions_they_come_in(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    portions = [data[a:b] for a, b in pairwise(edges)]
    assert split(*portions) == split(data)


@given(TEXTS)
@settings(deadline=None)
def test_whoever_goes_on_at_a_lines_end_gets_the_rest(data: bytes) -> None:
    whole = split(data)
    for i, (end, _, _) in enumerate(whole):
        rest = [(end + at, text, more) for at, text, more in split(data[end:])]
        assert rest == whole[i + 1 :]


@given(TEXTS)
@settings(deadline=None)
def test_every_byte_but_line_ends_is_in_a_line_and_none_is_too_long(data: bytes) -> None:
    whole = split(data)
    assert all(len(text) <= LIMIT for _, text, _ in whole)
    lines = [b""]
    for _, text, more in whole:
        lines[-1] += text
        lines += [] if more else [b""]
    assert len(lines) - 1 == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    joined = b"".join(text for _, text, _ in whole)
    assert (
        joined
        == b"".join(p[:-1] if p.endswith(b"\r") else p for p in data.split(b"\n")[:-1])
        + (data.split(b"\n")[-1])
    )


def test_a_line_has_the_time_of_its_first_byte(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\nthree\nfour")
    os.utime(log, ns=(0, 9_000_000_000))
    for stamp in (Stamp(2, 1000), Stamp(6, 2000), Stamp(9, 3000)):
        stamps.append(str(log), stamp)
    assert [(line.text, line.time_ms) for line in read(log)] == [
        (b"one", 1000),
        (b"two", 2000),
        (b"three", 3000),
        (b"four", 9000),
    ]


def test_without_an_index_lines_have_the_files_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\n")
    os.utime(log, ns=(0, 9_000_000_000))
    assert [line.time_ms for line in read(log)] == [9000, 9000]


@pytest.mark.parametrize(
    ("since_ms", "texts"),
    [(0, 4), (1000, 4), (1001, 3), (2000, 3), (2500, 2), (3001, 1), (9001, 0)],
)
def test_since_leaves_out_lines_that_began_before(
    tmp_path: Path, since_ms: int, texts: int
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\nthree\nfour")
    os.utime(log, ns=(0, 9_000_000_000))
    for stamp in (Stamp(2, 1000), Stamp(6, 2000), Stamp(14, 3000)):
        stamps.append(str(log), stamp)
    assert len(read(log, since_ms=since_ms)) == texts


def test_a_line_is_read_as_it_grows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    lines = LogLines(str(log))
    with log.open("ab", buffering=0) as file:
        file.write("10% é".encode()[:-1])
        assert lines.grown()
        assert lines.next() is None
        assert lines.partial == "10% é".encode()[:-1]
        file.write("é".encode()[-1:] + b" done\nmore")
        line = lines.next()
        assert line is not None
        assert line.text.decode() == "10% é done"
        assert lines.next() is None
        assert not lines.grown()
        assert lines.partial == b"more"


def test_a_log_that_is_cut_short_is_read_again_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\n")
    lines = LogLines(str(log))
    assert [lines.next(), lines.next(), lines.next()][2] is None
    log.write_bytes(b"new\n")
    line = lines.next()
    assert line is not None
    assert (line.start, line.text) == (0, b"new")


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []
    assert tail_offset(str(tmp_path / "none"), 3) == 0


@given(st.lists(st.integers(0, 100_000) | st.just(0), max_size=6), st.booleans(), st.integers(0, 8))
@settings(deadline=None, max_examples=50)
def test_the_tail_holds_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], ended: bool, count: int
) -> None:
    log = tmp_path_factory.mktemp("tail") / "log"
    data = b"\n".join(b"x" * size for size in sizes) + (b"\n" if ended and sizes else b"")
    log.write_bytes(data)
    offset = tail_offset(str(log), count)
    found = [line.text for line in read(log, offset)]
    assert len(found) >= min(count, len(read(log)))
    if max(sizes, default=0) < LIMIT:
        wanted = [line.text for line in read(log)][-count:] if count else []
        assert found[len(found) - len(wanted) :] == wanted
        assert len(found) <= count + 1


def test_the_tail_of_a_huge_line_is_found_without_reading_it_all(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(2**40)
    assert tail_offset(str(log), 10) >= 2**40 - 12 * LIMIT


def test_raw_sends_the_bytes_as_they_are_until_the_job_has_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parts = [b"\x00\xff\r", b"x" * 600_000, b"end"]
    log.write_bytes(parts[0])
    got = bytearray()
    left = parts[1:]
    subscription = Subscription()

    async def send(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        got.extend(data)

    def ended() -> bool:
        if left:
            with log.open("ab") as file:
                file.write(left.pop(0))
            subscription.notify()
            return False
        return True

    trio.run(
        lambda: raw(str(log), follow=True, ended=ended, subscription=subscription, send_bytes=send)
    )
    assert bytes(got) == b"".join(parts)
