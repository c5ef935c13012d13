"""Copies are private and exact; removal leaves nothing, whatever a job did."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rised.linux.copy_tree import _UNSUPPORTED, copy_tree, remove_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "pristine"
    (root / "d" / "empty directory").mkdir(parents=True)
    (root / "a").write_bytes(b"alpha")
    (root / "none").touch()
    (root / "d" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "d" / "run").chmod(0o755)
    (root / "link").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    (root / "up").symlink_to("d")
    for name in (b"\xff", b"-rf", b"a\nb", b" "):
        with open(os.fsencode(root) + b"/" + name, "wb") as file:
            file.write(name)
    return root


def listing(root: Path) -> list[tuple[str, int, object]]:
    found: list[tuple[str, int, object]] = []
    for directory, directories, names in os.walk(root):
        for name in directories + names:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            content: object = None
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = Path(path).read_bytes()
            found.append((os.path.relpath(path, root), mode, content))
    return sorted(found, key=repr)


def test_a_copy_is_exact(tree: Path, tmp_path: Path) -> None:
    copy_tree(str(tree), str(tmp_path / "copy"), os.getuid(), os.getgid())
    assert listing(tmp_path / "copy") == listing(tree)


def test_files_keep_their_modes_whatever_the_umask(tree: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        copy_tree(str(tree), str(tmp_path / "copy"), os.getuid(), os.getgid())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "copy/a").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "copy/d/run").stat().st_mode) == 0o755


def test_what_a_job_writes_in_its_copy_changes_no_other(tree: Path, tmp_path: Path) -> None:
    copy_tree(str(tree), str(tmp_path / "one"), os.getuid(), os.getgid())
    copy_tree(str(tree), str(tmp_path / "two"), os.getuid(), os.getgid())
    with (tmp_path / "one/a").open("r+b") as file:
        file.write(b"X")
    assert (tmp_path / "two/a").read_bytes() == (tree / "a").read_bytes() == b"alpha"


@pytest.mark.parametrize("way", ["clone or copy in the kernel", "read and write"])
def test_a_big_file_is_copied_whole(
    tree: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(5_000_001)
    (tree / "big").write_bytes(content)
    if way == "read and write":

        def refuse(*_: object) -> None:
            raise OSError(next(iter(_UNSUPPORTED)), "unsupported")

        monkeypatch.setattr(os, "copy_file_range", refuse)
        monkeypatch.setattr("fcntl.ioctl", refuse)
    copy_tree(str(tree), str(tmp_path / "copy"), os.getuid(), os.getgid())
    assert (tmp_path / "copy/big").read_bytes() == content


def test_a_copy_never_writes_into_what_is_there(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copy").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        copy_tree(str(tree), str(tmp_path / "copy"), os.getuid(), os.getgid())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_removal_takes_links_and_not_what_they_lead_to(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tree / "d" / "out").symlink_to(outside)
    remove_tree(str(tree))
    (tmp_path / "root").symlink_to(outside)
    remove_tree(str(tmp_path / "root"))
    assert list(tmp_path.iterdir()) == [outside]
    assert (outside / "precious").exists()


def test_removing_nothing_or_a_file_is_fine(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "no" / "where"))
    remove_tree(str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    remove_tree(str(tmp_path / "file"))
    (tmp_path / "d").mkdir()
    remove_tree(str(tmp_path / "d") + "/")
    assert list(tmp_path.iterdir()) == []


CLOSED = """
import os
from pathlib import Path
from rised.linux.copy_tree import remove_tree
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name, mode in ("none", 0), ("read", 0o400), ("list", 0o500), ("enter", 0o100):
    inner = Path("tree", name, "inner")
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(mode)
    inner.parent.chmod(mode)
Path("tree").chmod(0)
remove_tree("tree")
"""


def test_directories_that_their_owner_closed_are_removed(tmp_path: Path) -> None:
    """As an ordinary owner, not as root, for whom nothing is closed."""
    tmp_path.chmod(0o777)
    done = subprocess.run([sys.executable, "-c", CLOSED], cwd=tmp_path, capture_output=True)
    assert done.stderr == b""
    assert list(tmp_path.iterdir()) == []


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=here)
        inside = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    remove_tree(str(tmp_path / "deep"))
    assert list(tmp_path.iterdir()) == []


def test_a_wide_tree_is_removed(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / "tree" / str(number % 7) / str(number)).mkdir(parents=True)
        (tmp_path / "tree" / str(number % 7) / f"{number}.txt").touch()
    remove_tree(str(tmp_path / "tree"))
    assert list(tmp_path.iterdir()) == []
