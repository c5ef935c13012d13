"""What jobs report, as the daemon reads it."""

import json
import os
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import riseml.results
from rised.experiments.results import FILE, last, read
from rised.users.owner import own

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: name not in ("time", "step")
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)


def test_client_and_daemon_mean_the_same_file() -> None:
    assert riseml.results.FILE == FILE


@given(
    st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=20), st.sampled_from([b"", b"{"])
)
def test_of_each_result_the_last_value_counts_in_the_order_of_first_reports(
    reports: list[dict[str, object]], between: bytes
) -> None:
    expected: dict[str, object] = {}
    for report in reports:
        expected |= report
    lines = [line for report in reports for line in (json.dumps(report).encode(), between)]
    assert list(last(lines).items()) == list(expected.items())[:100]


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_nothing_that_stands_there_is_an_error(lines: list[bytes]) -> None:
    for value in last([*lines, b'{"a": 1}']).values():
        assert value is None or isinstance(value, str | int | float)


def test_time_and_step_are_no_results_and_what_is_no_plain_value_is_passed_over() -> None:
    lines = [b'{"time": "x", "step": 3, "a": [1], "b": {"c": 1}, "d": true}', b"[1]", b"{", b"7"]
    assert last(lines) == {"d": True}


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert read(str(tmp_path), own()) == {}
    assert read(str(tmp_path / "nowhere"), own()) == {}


def test_only_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"a": 1}\n')
    (tmp_path / FILE).symlink_to(tmp_path / "other")
    assert read(str(tmp_path), own()) == {}
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    assert read(str(tmp_path), own()) == {}
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).symlink_to("/dev/zero")
    assert read(str(tmp_path), own()) == {}


def test_of_a_huge_file_the_beginning_and_the_end_are_read(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.write(b'{"early": 1, "both": 1}\n')
        file.truncate(1 << 33)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"late": 2, "both": 2}\n')
    found = read(str(tmp_path), own())
    assert found == {"early": 1, "both": 2, "late": 2}
    assert list(found) == ["early", "both", "late"]


def test_a_result_that_was_reported_once_is_found_among_a_hundred_thousand_lines(
    tmp_path: Path,
) -> None:
    steps = [b'{"step": %d, "loss": %d}\n' % (n, n) for n in range(1, 100_001)]
    (tmp_path / FILE).write_bytes(b'{"parameters": 7}\n' + b"".join(steps) + b'{"accuracy": 1}\n')
    assert read(str(tmp_path), own()) == {"parameters": 7, "loss": 100_000, "accuracy": 1}


HOSTILE = {
    "no JSON": b"{\n" * (2 << 20),
    "empty lines": b"\n" * (4 << 20),
    "a line of lists": b'{"a":[' + b"[]," * (1 << 20) + b"[]]}\n",
    "deep lines": (b'{"a":' + b"[" * 4000 + b"\n") * 1000,
    "long numbers": (b'{"a":' + b"9" * 4000 + b"}\n") * 1000,
    "many names": b"".join(b'{"a%d":1}\n' % n for n in range(1 << 19)),
    "one name": b'{"a":1}\n' * (1 << 19),
    "no plain values": b'{"a":[]}\n' * (1 << 19),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_no_file_holds_the_daemon_up(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(data)
    begun = time.thread_time()
    found = read(str(tmp_path), own())
    assert time.thread_time() - begun < 0.5  # seconds; it takes a tenth of that
    assert len(found) <= 100


def test_what_jsons_own_writers_get_wrong_costs_no_other_result() -> None:
    lines = [b'{"loss": NaN, "low": -Infinity, "high": 1e999, "accuracy": 0.5}', b"{half a li"]
    assert last(lines) == {"loss": "NaN", "low": "-Infinity", "high": "Infinity", "accuracy": 0.5}


def test_what_is_found_can_be_stored_sent_and_compared() -> None:
    lines = [b'{"n": 1' + b"0" * 30 + b', "long": ' + b"9" * 400 + b', "odd": "a\\ud800b"}']
    found = last(lines)
    assert found == {"n": 1e30, "long": "9" * 200, "odd": "a?b"}
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


def test_lines_need_no_time_and_may_be_anyones() -> None:
    assert last([b'{"accuracy": 0.3}', b' {"accuracy" : 0.4 } \r', b""]) == {"accuracy": 0.4}


def test_a_job_cannot_report_more_than_a_table_can_show() -> None:
    lines = [json.dumps({f"r{n}": "x" * 10_000}).encode() for n in range(1000)]
    found = last(lines)
    assert len(found) == 100
    assert len(str(found["r0"])) == 200
