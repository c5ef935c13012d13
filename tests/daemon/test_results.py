"""What jobs report, as the daemon reads it."""

import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import riseml.results
from rised.results import FILE, last, read

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: name not in ("time", "step")
)
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)


def test_client_and_daemon_mean_the_same_file() -> None:
    assert riseml.results.FILE == FILE


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=20))
def test_of_each_result_the_last_value_counts(reports: list[dict[str, object]]) -> None:
    expected: dict[str, object] = {}
    for report in reports:
        expected |= {
            name: value
            for name, value in report.items()
            if not isinstance(value, float) or abs(value) != float("inf")
        }
    lines = [
        json.dumps({n: v for n, v in r.items() if n in expected}).encode()
        for r in reports
        if "Infinity" not in json.dumps(r)
    ]
    found = last(lines)
    assert found.keys() <= expected.keys()
    for name in found:
        said = [json.loads(line)[name] for line in lines if name in json.loads(line)]
        assert found[name] == said[-1]


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_nothing_that_stands_there_is_an_error(lines: list[bytes]) -> None:
    for value in last([*lines, b'{"a": 1}']).values():
        assert value is None or isinstance(value, str | int | float)


def test_time_and_step_are_no_results_and_what_is_no_plain_value_is_passed_over() -> None:
    lines = [b'{"time": "x", "step": 3, "a": [1], "b": {"c": 1}, "d": true}', b"[1]", b"{", b"7"]
    assert last(lines) == {"d": True}


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert read(str(tmp_path)) == {}
    assert read(str(tmp_path / "nowhere")) == {}


def test_only_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"a": 1}\n')
    (tmp_path / FILE).symlink_to(tmp_path / "other")
    assert read(str(tmp_path)) == {}
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    assert read(str(tmp_path)) == {}
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).symlink_to("/dev/zero")
    assert read(str(tmp_path)) == {}


def test_of_a_huge_file_the_end_is_read(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.write(b'{"early": 1}\n')
        file.truncate(1 << 33)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"late": 2}\n')
    assert read(str(tmp_path)) == {"late": 2}


def test_a_job_cannot_report_more_than_a_table_can_show() -> None:
    lines = [json.dumps({f"r{n}": "x" * 10_000}).encode() for n in range(1000)]
    found = last(lines)
    assert len(found) == 100
    assert len(str(found["r0"])) == 200
