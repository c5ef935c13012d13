"""Where things lie, and the making of files and directories."""

import os
from pathlib import Path

import pytest

from rised.layout import Layout, make_directory, write_file
from rised.store.records import ExperimentRow
from riseml_proto.states import State

ROW = ExperimentRow(
    144, "paul", 1000, "toaster", "f" * 40, "", "riseml.yml", "{}", 8,
    State.PENDING, None, 0, 0, 0, 0, 0, None, 0, None,
)  # fmt: skip
LAYOUT = Layout("/state", "/output")


def test_each_attempt_has_a_log_of_its_own() -> None:
    assert LAYOUT.log(144, 2, "train", 1) == "/state/logs/144/2.train.1.log"
    assert LAYOUT.log(144, 2, "train", 2) == "/state/logs/144/2.train.2.log"
    assert LAYOUT.log(144, 0, "train", 1) == "/state/logs/144/train.1.log"


def test_outputs_lie_below_user_project_and_set() -> None:
    assert LAYOUT.output(ROW, 2) == "/output/paul/toaster/144/2"
    assert LAYOUT.output(ROW, 0) == "/output/paul/toaster/144"


def test_no_two_jobs_share_a_log() -> None:
    jobs = [(e, m, a) for e in (1, 11) for m in (0, 1, 11) for a in (1, 11)]
    assert len({LAYOUT.log(e, m, "train", a) for e, m, a in jobs}) == len(jobs)


def test_a_file_is_written_whole_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(3 << 20)
    write_file(str(path), data)
    assert path.read_bytes() == data
    write_file(str(path), b"short")
    assert path.read_bytes() == b"short"


def test_a_directory_is_made_with_those_above_it_and_closed_to_others(tmp_path: Path) -> None:
    made = tmp_path / "a" / "b"
    make_directory(str(made))
    make_directory(str(made))
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(str(tmp_path / "file"))
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        make_directory(str(tmp_path / "link"))
