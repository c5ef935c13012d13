"""Files: whole writes, reads that nobody can block, directories with the right mode, what is durably there."""

import contextlib
import errno
import os
from collections.abc import Iterator

from riseml_proto.errors import StorageFull

PASSABLE = 0o711
"""Mode of a directory of the daemon's in which users have directories of their own: they pass through, no more."""


def write_file(path: str, data: bytes) -> None:
    """Make the file `path` hold `data`. Python's own `open` would cost several times as much."""
    _write(path, os.O_TRUNC, data)


def overwrite(path: str, data: bytes) -> None:
    """Write `data` over the beginning of the file `path`. That takes no new room on the disk."""
    _write(path, 0, data)


def _write(path: str, flags: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o666)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def read_small(path: str) -> bytes:
    """The first 4096 bytes of a file: all of most files in /proc and /sys. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def open_untrusted(path: str) -> int:
    """Open for reading what a user may have replaced: follows no link, waits for no FIFO. Raises `OSError`.

    The caller finds out whether it is a regular file.
    """
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def make_directory(path: str) -> None:
    """Make a directory for the daemon alone, and those above it; one that is there stays as it is."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        os.makedirs(path, mode=0o700, exist_ok=True)


def make_private(path: str) -> None:
    """As `make_directory`; the new names are on disk when it returns."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_private(os.path.dirname(path))
        os.mkdir(path, 0o700)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Return when the names in the directory `path` are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, in as many steps as the kernel wants."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def disk_may_be_full(path: str) -> Iterator[None]:
    """Turn the kernel's error that a disk or quota has no room into `StorageFull` with `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(f"{path}: no room left on this disk; free some and try again") from error
