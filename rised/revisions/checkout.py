"""Pristine trees: a revision's files on disk, made once and copied for every job.

A tree is made under another name and then renamed, so every tree with its proper name is complete. Its files are not
synced to the disk, which would hold up the first job of every revision. Instead, trees from before the last boot are
made again from git's objects, which are synced.
"""

import os
from collections.abc import Callable
from pathlib import Path

from rised.crashpoints import crash_point
from rised.linux.copy_tree import remove_tree
from rised.linux.files import disk_may_be_full, make_private, opened, write_all
from rised.linux.processes import boot_id
from rised.revisions.manifest import DIRECTORY, LINK
from rised.revisions.objects import Reader
from riseml_proto import paths
from riseml_proto.errors import SyncError

_NEW, _OLD, _BOOT = ".new-", ".old-", ".boot"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def prepare(trees: str) -> None:
    """Remove what a dead daemon left half made in `trees`; after a boot of the machine, remove all trees."""
    boot = boot_id()
    mark = Path(trees, _BOOT)
    with disk_may_be_full(trees):
        make_private(trees)
        same = mark.exists() and mark.read_text("ascii", "replace").strip() == boot
        for name in os.listdir(trees):
            if not same or name.startswith((_NEW, _OLD)):
                remove_tree(os.path.join(trees, name))
        if not same:
            mark.write_text(boot)


def make(objects: str, tree: str, path: str, check: Callable[[], object]) -> None:
    """Make the pristine tree `path` from git's `tree`. `check` is called between files and may raise.

    Raises `NotFound` or `RisemlError` where an object is missing or damaged, and `StorageFull`.
    """
    parent, name = os.path.split(path)
    new = os.path.join(parent, _NEW + name)
    try:
        with disk_may_be_full(parent), Reader(objects) as reader:
            _fill(reader, tree, os.fsencode(new), check)
        crash_point("checkout-before-rename")
        os.rename(new, path)
    except BaseException:
        remove_tree(new)
        raise


def set_aside(path: str) -> str | None:
    """Rename the tree `path`, so that nobody uses it any more; return its new path, or None if there was none."""
    parent, name = os.path.split(path)
    old = os.path.join(parent, f"{_OLD}{name}-{os.urandom(4).hex()}")
    try:
        os.rename(path, old)
    except FileNotFoundError:
        return None
    return old


def _fill(reader: Reader, root: str, path: bytes, check: Callable[[], object]) -> None:
    from dulwich.objects import parse_tree

    left = [(root, path)]
    while left:
        tree, directory = left.pop()
        os.mkdir(directory, 0o755)
        for name, mode, blob in parse_tree(reader.read(tree, b"tree"), 20):
            paths.check(name)
            if b"/" in name:
                raise SyncError(f"tree {tree} has a name that leads elsewhere; see git fsck")
            to = directory + b"/" + name
            if mode == DIRECTORY:
                left.append((blob.decode(), to))
                continue
            check()
            if mode == LINK:
                os.symlink(reader.read(blob.decode(), b"blob"), to)
            else:
                _write_file(reader, blob.decode(), mode & 0o777, to)


def _write_file(reader: Reader, blob: str, mode: int, path: bytes) -> None:
    with opened(path, _CREATE, mode) as fd:
        os.fchmod(fd, mode)  # whatever the umask
        for piece in reader.chunks(blob, b"blob"):
            write_all(fd, piece)
