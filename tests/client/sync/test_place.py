"""A home directory, the whole machine and riseml's own directories are no projects."""

import os
from pathlib import Path

import pytest

from riseml.sync.place import check_project
from riseml_proto.errors import InvalidInput


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "homes" / "ann"
    for name in ("project", ".cache/riseml", ".local/state/rised/logs", "riseml-output/ann/p/1"):
        (path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(path))
    return path


def check(path: Path | str) -> None:
    check_project(os.fsencode(path), {})


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (".", "is your home directory"),
        ("..", "is a directory above your home directory"),
        ("/", "is the whole machine"),
        (".cache/riseml", "is riseml's own directory"),
        (".local/state/rised/logs", "is riseml's own directory"),
        ("riseml-output/ann/p/1", "is riseml's own directory"),
        (".local", "holds riseml's own directory .*/.local/state/rised"),
    ],
)
def test_what_must_not_travel_is_refused_with_the_way_out(home: Path, name: str, what: str) -> None:
    with pytest.raises(
        InvalidInput, match=f"{what}.*; make a directory with the experiment's files"
    ):
        check(home / name)


def test_a_way_around_by_a_link_is_seen(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(InvalidInput, match="home directory"):
        check(tmp_path / "link")


def test_any_other_directory_is_a_project(home: Path) -> None:
    check(home / "project")
    check(home / ".cache" / "other")
