"""A path never leaves its top, and nothing but files and directories is opened on its way."""

import errno
import os
from pathlib import Path

import pytest

from rised.files.beneath import LeadsOut, Top, open_regular, reopen


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A top with a file and a directory, and a secret beside it."""
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    return top


def content(top: Path, path: bytes) -> bytes:
    handle = reopen(Top(str(top)).find(path), os.O_RDONLY)
    return os.read(handle.fd, 100)


@pytest.mark.parametrize("path", [b"a/b/file", b"./a//b/./file"])
def test_a_path_below_the_top_is_found(tree: Path, path: bytes) -> None:
    assert content(tree, path) == b"inside"


@pytest.mark.parametrize("target", ["b/file", "../a/b/file", "{top}/a/b/file", "b/../b/file"])
def test_a_link_that_stays_below_is_followed(tree: Path, target: str) -> None:
    (tree / "a" / "link").symlink_to(target.format(top=tree))
    assert content(tree, b"a/link") == b"inside"


@pytest.mark.parametrize(
    "target",
    ["../../secret", "/etc/passwd", "{top}-other/x", "../../top/a/b/file", "{top}/../secret"],
)
def test_a_link_that_leads_out_is_refused(tree: Path, target: str) -> None:
    (tree / "a" / "link").symlink_to(target.format(top=tree))
    with pytest.raises(LeadsOut):
        Top(str(tree)).find(b"a/link")


def test_a_path_that_leads_out_is_refused(tree: Path) -> None:
    with pytest.raises(LeadsOut):
        Top(str(tree)).find(b"a/../../secret")


def test_links_in_a_circle_end(tree: Path) -> None:
    (tree / "one").symlink_to("two")
    (tree / "two").symlink_to("one")
    with pytest.raises(OSError) as raised:
        Top(str(tree)).find(b"one")
    assert raised.value.errno == errno.ELOOP


def test_a_file_on_the_way_is_no_directory(tree: Path) -> None:
    with pytest.raises(NotADirectoryError):
        Top(str(tree)).find(b"a/b/file/x")
    with pytest.raises(NotADirectoryError):
        Top(str(tree)).find_above(b"a/b/file/x")


def test_the_last_name_need_not_exist(tree: Path) -> None:
    folder, name = Top(str(tree)).find_above(b"a/b/new")
    assert (os.listdir(f"/proc/self/fd/{folder.fd}"), name) == (["file"], b"new")


def test_only_regular_files_are_opened(tree: Path) -> None:
    """A FIFO without a writer would hold up whoever opens it."""
    os.mkfifo(tree / "fifo")
    (tree / "link").symlink_to("a/b/file")
    folder = Top(str(tree)).find(b"")
    for name in (b"fifo", b"link", b"a"):
        with pytest.raises(OSError, match="not a regular file") as raised:
            open_regular(folder, name, os.O_RDONLY)
        assert raised.value.errno == errno.EINVAL
    with open_regular(Top(str(tree)).find(b"a/b"), b"file", os.O_RDONLY) as file:
        assert os.read(file.fd, 100) == b"inside"
