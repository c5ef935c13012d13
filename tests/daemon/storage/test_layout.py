"""Where things lie, and the making of files and directories."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import riseml
from rised.linux.files import make_directory, write_file
from rised.runners.client_package import client_package, install_client
from rised.storage.layout import Layout
from rised.storage.rows import ExperimentRow
from riseml_proto.states import State

ROW = ExperimentRow(
    144, "paul", 1000, "toaster", "f" * 40, "", "riseml.yml", "{}", 8,
    State.PENDING, 0,
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


def test_jobs_find_a_copy_of_the_client_that_outlives_the_installed_one(tmp_path: Path) -> None:
    place = tmp_path / "python"
    install_client(str(place))
    code = "import riseml; print(riseml.__file__, riseml.__version__)"
    bare = [sys.executable, "-S", "-c", code]  # as in a virtual environment without riseml
    env = {"PYTHONPATH": str(place)}
    done = subprocess.run(bare, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(place / "riseml" / "__init__.py"), riseml.__version__]
    for name in ("riseml", "riseml_proto"):
        assert os.path.realpath(place / name).startswith(str(place))
    files = [path for path in place.rglob("*") if not path.is_symlink()]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)


def test_a_daemon_of_another_version_puts_its_own_client_there(tmp_path: Path) -> None:
    (tmp_path / "riseml").symlink_to("/an/older/riseml")
    (tmp_path / "riseml.new").symlink_to("/what/a/crash/left")
    (tmp_path / ".0123").mkdir()
    install_client(str(tmp_path), keep_others=True)
    assert (tmp_path / ".0123").is_dir()
    install_client(str(tmp_path))
    assert not (tmp_path / ".0123").exists()
    assert not (tmp_path / "riseml.new").is_symlink()
    installed = Path(client_package(), "results.py").read_bytes()
    assert (tmp_path / "riseml" / "results.py").read_bytes() == installed
    before = (tmp_path / "riseml").lstat()
    install_client(str(tmp_path))
    assert (tmp_path / "riseml").lstat() == before


def test_a_client_that_a_power_cut_damaged_is_copied_again(tmp_path: Path) -> None:
    install_client(str(tmp_path))
    installed = Path(client_package(), "results.py").read_bytes()
    (tmp_path / "riseml" / "results.py").write_bytes(b"")
    (tmp_path / f"{(tmp_path / 'riseml').readlink().parent}.new").mkdir()
    install_client(str(tmp_path))
    assert (tmp_path / "riseml" / "results.py").read_bytes() == installed


def test_a_daemon_starts_where_the_client_cannot_be_put(tmp_path: Path) -> None:
    (tmp_path / "riseml").mkdir()
    install_client(str(tmp_path))
    install_client(str(tmp_path / ("x" * 300)))
