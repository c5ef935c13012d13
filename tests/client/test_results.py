"""report_result(): lines of JSON in the output directory."""

import ast
import json
import os
import shutil
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


CLIENT = [Path(riseml.__file__).parent / name for name in ("__init__.py", "results.py")]
NAMES = [*(f"python3.{minor}" for minor in range(6, 20)), "pypy3"]


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: path.name)
def test_the_client_is_written_in_the_words_of_the_oldest_python_that_images_have(
    path: Path,
) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 6))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "__future__" not in {node.module for node in imported}  # 3.6 has no `annotations` there


def runs(python: str) -> bool:
    """Whether it is more than the name of a version that is not installed."""
    path = shutil.which(python)
    return bool(path) and not subprocess.run([python, "-c", ""], capture_output=True).returncode


@pytest.mark.parametrize("python", [name for name in NAMES if runs(name)])
def test_the_client_runs_in_whatever_python_a_job_has(python: str, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "OUTPUT_DIR": str(tmp_path)}
    (tmp_path / "riseml").symlink_to(CLIENT[0].parent)
    env |= {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "import riseml; riseml.report_result(accuracy=.5, name='x', worst=float('nan'))"
    command = [python, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    reported = json.loads((tmp_path / FILE).read_text())
    assert reported.pop("time").endswith("Z")
    assert reported == {"accuracy": 0.5, "name": "x", "worst": "NaN"}
