"""report_result(): lines of JSON in the output directory."""

import ast
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import riseml
from riseml.results import FILE, encode


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path))
    return tmp_path / FILE


class Scalar:
    """What numpy and torch have."""

    def __init__(self, value: object) -> None:
        self._value = value

    def item(self) -> object:
        if self._value is None:
            raise ValueError("can only convert an array of size 1")
        return self._value


def test_each_report_is_a_line(output: Path) -> None:
    riseml.report_result(accuracy=0.5)
    riseml.report_result(accuracy=0.93, loss=Scalar(2), name="best", done=True, note=None)
    first, second = map(json.loads, output.read_text().splitlines())
    assert first["accuracy"] == 0.5
    assert first["time"] <= second["time"]
    del second["time"]
    assert second == {"accuracy": 0.93, "loss": 2, "name": "best", "done": True, "note": None}


def test_times_are_utc_with_milliseconds() -> None:
    assert encode({"x": 1}, 1504087146.1209) == b'{"time": "2017-08-30T09:59:06.120Z", "x": 1}\n'


def test_outside_a_job_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTPUT_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    riseml.report_result(accuracy=1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_is_written_as_a_text_that_float_reads() -> None:
    line = json.loads(encode({"a": float("nan"), "b": -float("inf"), "c": Scalar(1e999)}, 0))
    assert (line["a"], line["b"], line["c"]) == ("NaN", "-Infinity", "Infinity")
    assert float(line["b"]) == -float("inf")


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), Scalar(None), Scalar([1]), b"x"])
def test_other_values_are_refused_by_name(output: Path, value: object) -> None:
    with pytest.raises(TypeError, match="loss must be a number"):
        riseml.report_result(loss=value)
    assert not output.exists()


def test_the_time_is_not_the_jobs_to_give(output: Path) -> None:
    with pytest.raises(TypeError, match="'time'"):
        riseml.report_result(time=3)


@given(st.dictionaries(st.text(), st.text() | st.floats() | st.integers() | st.booleans()))
def test_every_report_is_one_line_of_valid_json(results: dict[str, object]) -> None:
    results.pop("time", None)
    line = encode(results, 0)
    assert line.count(b"\n") == 1

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert set(json.loads(line, parse_constant=refuse)) == {"time", *results}


def test_reports_at_once_do_not_mix(output: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            pool.submit(riseml.report_result, text=1000 * "x", number=number)
    numbers = [json.loads(line)["number"] for line in output.read_text().splitlines()]
    assert sorted(numbers) == list(range(200))


def test_importing_riseml_imports_nothing_else() -> None:
    code = "import sys; old = set(sys.modules); import riseml; print(set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'riseml'}\n"


def test_the_version_is_the_packages() -> None:
    assert riseml.__version__.count(".") == 2
    with pytest.raises(AttributeError):
        _ = riseml.nothing


def test_a_full_disk_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.symlink("/dev/full", tmp_path / FILE)
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path))
    with pytest.raises(OSError, match="No space left"):
        riseml.report_result(x=1)


def test_the_client_runs_in_whatever_python_a_job_has() -> None:
    package = Path(riseml.__file__).parent
    for name in ("__init__.py", "results.py"):
        ast.parse((package / name).read_text(), feature_version=(3, 7))
    assert "from __future__ import annotations" in (package / "results.py").read_text()
