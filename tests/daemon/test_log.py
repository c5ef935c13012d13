"""The daemon's own log: one line per event, whatever is in it, and nothing that happens to it stops the daemon."""

import json
import logging
import os
import re
import shlex
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised import log as module
from rised.log import log, start
from riseml_proto.errors import InvalidInput

_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^" \n]+)')


@contextmanager
def process_of_its_own() -> Iterator[None]:
    """Standard output, standard error and `logging` are as before afterwards."""
    kept = [os.dup(fd) for fd in (1, 2)]
    handlers, level = logging.root.handlers[:], logging.getLogger("rised").level
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.root.handlers[:] = handlers
        logging.getLogger("rised").setLevel(level)
        for fd, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, fd)
            os.close(copy)


@contextmanager
def log_file(directory: Path) -> Iterator[Path]:
    """The log, as a file."""
    with process_of_its_own():
        start(str(directory / "rised.log"))
        yield directory / "rised.log"


def pairs(line: str) -> dict[str, str]:
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    return {
        key: json.loads(value) if value.startswith('"') else value
        for key, value in _PAIR.findall(line)
    }


def test_an_event_is_one_line_of_pairs(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        log.warning("job started", job="144.2.train", gpus=[0, 1], empty="")
        line = file.read_text()
        assert re.fullmatch(
            r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=warning "
            r'event="job started" job=144\.2\.train gpus="\[0, 1\]" empty=""\n',
            line,
        )
        assert shlex.split(line)[2] == "event=job started"


@given(st.text(st.characters(), max_size=20))
def test_no_text_breaks_out_of_its_line(text: str) -> None:
    with TemporaryDirectory() as directory, log_file(Path(directory)) as file:
        log.info("x", fact=text)
        assert pairs(file.read_text())["fact"] == text


def test_what_libraries_warn_of_stands_in_it(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        logging.getLogger("asyncio").warning("%s was slow: %d s", "it", 3)
        logging.getLogger("httpx").info("nobody needs this")
        line = pairs(file.read_text())
        assert (line["level"], line["logger"]) == ("warning", "asyncio")
        assert line["event"] == "it was slow: 3 s"


def test_an_exception_that_a_library_logs_stays_on_its_line(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        try:
            int("line one\nline two")
        except ValueError:
            logging.getLogger("trio").exception("a task failed")
        line = pairs(file.read_text())
        assert line["event"] == "a task failed"
        assert "line one\\nline two" in line["traceback"]


def test_a_format_that_does_not_fit_its_arguments_is_shown_as_it_is(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        logging.getLogger("aiodocker").error("%d containers", "many")
        assert pairs(file.read_text())["event"] == "%d containers"


def test_a_warning_of_python_is_an_event(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)
            warnings.warn("a coroutine was never awaited", RuntimeWarning, stacklevel=1)
        line = pairs(file.read_text())
        assert line["logger"] == "py.warnings"
        assert "RuntimeWarning: a coroutine was never awaited" in line["event"]


def test_standard_output_and_error_are_the_file(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        os.write(2, b"Traceback (most recent call last):\n")
        os.write(1, b"a library prints\n")
        assert file.read_text() == "Traceback (most recent call last):\na library prints\n"


def test_a_full_file_is_moved_aside_and_both_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_file(tmp_path) as file:
        monkeypatch.setattr(module, "MAX_BYTES", 1000)
        monkeypatch.setattr(module, "LOOK_SECONDS", 0)
        for number in range(100):
            log.info("x", number=number)
            os.write(2, b"raw words\n")
        old = Path(f"{file}.1")
        assert sorted(file.parent.iterdir()) == [file, old]
        assert max(file.stat().st_size, old.stat().st_size) < 1100
        lines = (old.read_text() + file.read_text()).splitlines()
        numbers = [int(line.partition("number=")[2]) for line in lines if "number" in line]
        assert numbers == list(range(numbers[0], 100))
        assert lines[-1] == "raw words"


def test_a_file_that_somebody_removed_or_moved_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_file(tmp_path) as file:
        monkeypatch.setattr(module, "LOOK_SECONDS", 0)
        file.unlink()
        log.info("after rm")
        os.write(2, b"raw\n")
        assert re.fullmatch(r'.*event="after rm"\nraw\n', file.read_text())
        file.rename(f"{file}.old")
        log.info("after mv")
        assert "after mv" in file.read_text()
        assert "after mv" not in Path(f"{file}.old").read_text()


def test_the_file_is_looked_at_now_and_then_and_not_for_each_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_file(tmp_path) as file:
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
        began = time.monotonic()
        log.info("a look")
        file.unlink()
        while not file.exists():
            log.info("another event")
        assert 0.1 <= time.monotonic() - began < 60


def test_a_restart_goes_on_with_the_file(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        log.info("first life")
        start(str(file))
        log.info("second life")
        assert [pairs(f"{line}\n")["event"] for line in file.read_text().splitlines()] == [
            "first life",
            "second life",
        ]


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    with process_of_its_own():
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 2)
        os.close(full)
        start()
        log.error("x")
        directory = tmp_path / "gone"
        directory.mkdir()
        start(f"{directory}/rised.log")
        shutil.rmtree(directory)
        log.error("y")


def test_a_fifo_in_the_place_of_the_file_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_file(tmp_path) as file:
        monkeypatch.setattr(module, "LOOK_SECONDS", 0)
        os.rename(file, tmp_path / "aside")
        os.mkfifo(file)
        log.info("nobody reads there")
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb"):
            log.info("somebody does")
        assert (tmp_path / "aside").read_text().count("event=") == 2
        with pytest.raises(InvalidInput, match=r"rised\.log"):
            start(str(file))


def test_a_file_that_cannot_be_opened_is_one_clear_error() -> None:
    with process_of_its_own(), pytest.raises(InvalidInput) as caught:
        start("/proc/none/rised.log")
    assert str(caught.value) == "--log-file: /proc/none/rised.log: No such file or directory"
