"""The index of times: what it tells, and what damage to it costs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised.logs import stamps
from rised.logs.stamps import SUFFIX, Stamp, Times


def write(log: Path, *written: Stamp) -> str:
    for stamp in written:
        stamps.append(str(log), stamp)
    return str(log)


@given(st.lists(st.builds(Stamp, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
def test_what_is_encoded_is_decoded(written: list[Stamp]) -> None:
    assert stamps.decode(b"".join(map(stamps.encode, written))) == written


def test_each_byte_has_the_time_of_the_chunk_that_it_came_in(tmp_path: Path) -> None:
    log = write(tmp_path / "log", Stamp(10, 1000), Stamp(11, 2000), Stamp(30, 3000))
    times = Times(log)
    found = [times.at(offset) for offset in (0, 9, 10, 11, 29, 30)]
    assert [stamp and stamp.time_ms for stamp in found] == [1000, 1000, 2000, 3000, 3000, None]


def test_times_are_found_in_an_index_longer_than_a_block_in_any_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    count = 3 * 4096 + 5
    data = b"".join(stamps.encode(Stamp(10 * i, i)) for i in range(1, count + 1))
    Path(f"{log}{SUFFIX}").write_bytes(data)
    times = Times(str(log))
    for offset in (0, 1, 50_000, 122_000, 5, 40_959, 40_960, 10 * count - 1):
        stamp = times.at(offset)
        assert stamp is not None
        assert stamp.time_ms == offset // 10 + 1
    assert times.at(10 * count) is None


def test_a_record_that_comes_later_is_seen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    times = Times(str(log))
    assert times.at(0) is None
    write(log, Stamp(5, 1))
    assert times.at(0) == Stamp(5, 1)
    assert times.at(5) is None
    write(log, Stamp(8, 2))
    assert times.at(5) == Stamp(8, 2)


def test_an_index_torn_at_any_byte_keeps_what_is_whole_and_can_be_continued(
    tmp_path: Path,
) -> None:
    written = [Stamp(7, 100), Stamp(9, 200), Stamp(200, 300)]
    whole = b"".join(map(stamps.encode, written))
    log = tmp_path / "log"
    index = Path(f"{log}{SUFFIX}")
    for size in range(len(whole) + 1):
        index.write_bytes(whole[:size])
        kept = written[: size // 16]
        assert stamps.decode(index.read_bytes()) == kept
        assert stamps.last(str(log)) == (kept[-1] if kept else None)
        times = Times(str(log))
        assert [times.at(o) for o in (0, 8, 100)] == kept + [None] * (3 - len(kept))
        stamps.append(str(log), Stamp(201, 400))
        assert stamps.decode(index.read_bytes()) == [*kept, Stamp(201, 400)]


def test_no_index_tells_nothing(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    assert stamps.last(log) is None
    assert Times(log).at(0) is None
    assert stamps.offset_since(log, 5) == 0


@pytest.mark.parametrize(
    ("time_ms", "offset"), [(0, 0), (1000, 0), (1001, 10), (3000, 11), (3001, 30)]
)
def test_the_offset_of_a_time_is_where_its_first_chunk_begins(
    tmp_path: Path, time_ms: int, offset: int
) -> None:
    log = write(tmp_path / "log", Stamp(10, 1000), Stamp(11, 2000), Stamp(30, 3000))
    assert stamps.offset_since(log, time_ms) == offset
