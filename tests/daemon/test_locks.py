"""One daemon per state directory and per socket: a lock has one holder, and the kernel drops it."""

import os
from pathlib import Path

import pytest

from rised.locks import hold, locked
from rised.settings import load
from riseml_proto.errors import AlreadyRunning, DaemonError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a lock."""
    return tmp_path / "lock"


def take(path: Path) -> None:
    with locked(str(path), "it"):
        pass


def test_a_lock_has_one_holder_and_names_its_pid(path: Path) -> None:
    with locked(str(path), "it"):
        with pytest.raises(
            AlreadyRunning, match=rf"^it is in use by another rised \(pid {os.getpid()}\)"
        ):
            take(path)
        assert path.read_text().splitlines()[0] == str(os.getpid())
    with locked(str(path), "it"):
        pass


def test_a_lock_is_no_link_and_no_directory(path: Path) -> None:
    path.symlink_to("elsewhere")
    with pytest.raises(DaemonError, match="cannot be a lock file"), locked(str(path), "it"):
        pass
    assert not path.exists()
    path.unlink()
    path.mkdir()
    with pytest.raises(DaemonError, match="cannot be a lock file"), locked(str(path), "it"):
        pass


@pytest.mark.parametrize("key", ["state-dir", "output-dir", "data-dir", "socket"])
def test_a_directory_that_cannot_be_made_is_told_with_its_setting(key: str, tmp_path: Path) -> None:
    paths = {
        name: str(tmp_path / name / "s")
        for name in ("state-dir", "output-dir", "data-dir", "socket")
    }
    settings = load(os.devnull, {**paths, key: "/proc/none/s"}, {})
    text = f"/proc/none: No such file or directory; name another --{key}, or {key} in config.yml"
    with pytest.raises(DaemonError, match=f"^{text}$"), hold(settings):
        pass
