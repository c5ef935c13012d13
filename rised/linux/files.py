"""Small steps with files: whole writes, directories with the right mode, and what is durably there."""

import contextlib
import errno
import os
from collections.abc import Iterator

from riseml_proto.errors import StorageFull

PASSABLE = 0o711
"""Mode of a directory of the daemon's in which users have directories of their own."""


def write_file(path: str, data: bytes) -> None:
    """Make the file `path` hold `data`. What Python's own `open` adds would cost several times as much."""
    _write(path, os.O_TRUNC, data)


def overwrite(path: str, data: bytes) -> None:
    """Write `data` over the beginning of the file `path`, which takes no new room on the disk."""
    _write(path, 0, data)


def _write(path: str, flags: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o666)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def make_directory(path: str) -> None:
    """Make a directory and those above it, where they are not there."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        os.makedirs(path, mode=0o700, exist_ok=True)


def make_private(path: str) -> None:
    """Make the directory `path` and those missing above it, for the owner only and durably."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_private(os.path.dirname(path))
        os.mkdir(path, 0o700)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Return when the names in `path` are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def disk_may_be_full(place: str) -> Iterator[None]:
    """Turn the kernel's word that a disk or quota has no room into `StorageFull` with `place`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(f"{place}: no room left on this disk; free some and try again") from error
