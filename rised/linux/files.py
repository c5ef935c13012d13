"""Files: whole writes, reads that nobody can block, directories with the right mode, what is durably there."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from riseml_proto.errors import StorageFull
from riseml_proto.file_kinds import wrong_kind

PASSABLE = 0o711
"""Mode of a directory of the daemon's in which users have directories of their own: they pass through, no more."""
READ_UNTRUSTED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags to open what a user may have replaced by a link or a FIFO. It need not be a regular file."""


class opened:  # noqa: N801 - used like a function; a generator's scope would cost a job's start several times as much
    """`os.open`, with `os.close` at the end of the scope."""

    __slots__ = ("_arguments", "_dir_fd", "_fd")

    def __init__(
        self, path: str | bytes, flags: int, mode: int = 0o666, dir_fd: int | None = None
    ) -> None:
        self._arguments = path, flags, mode
        self._dir_fd = dir_fd

    def __enter__(self) -> int:
        self._fd = os.open(*self._arguments, dir_fd=self._dir_fd)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


@contextlib.contextmanager
def opened_regular(path: str) -> Iterator[int]:
    """Read `path`, which a user may have replaced by anything, as a regular file.

    Raises `OSError`: ENOENT also where it is no regular file, whose size and bytes mean nothing.
    """
    with opened(path, READ_UNTRUSTED) as fd:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
        yield fd


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """`os.open` for what has to be a file, or /dev/null. Raises `OSError`, with words for a FIFO or a device."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a FIFO without a reader, a socket
            raise
        _require_file(os.stat(path), path)
        raise
    try:
        _require_file(os.fstat(fd), path)
    except OSError:
        os.close(fd)
        raise
    os.set_blocking(fd, True)
    return fd


def _require_file(status: os.stat_result, path: str) -> None:
    if wrong := wrong_kind(status.st_mode, status.st_rdev):
        raise OSError(errno.EINVAL, wrong, path)


def stat_regular(path: str) -> os.stat_result | None:
    """The status of `path`; None where it is not there, or is no regular file."""
    with contextlib.suppress(OSError):
        status = os.stat(path, follow_symlinks=False)
        return status if stat.S_ISREG(status.st_mode) else None
    return None


def write_file(path: str, data: bytes) -> None:
    """Make the file `path` hold `data`. Python's own `open` would cost several times as much."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        write_all(fd, data)


def overwrite(path: str, data: bytes) -> None:
    """Write `data` over the beginning of the file `path`. That takes no new room on the disk."""
    with opened(path, os.O_WRONLY | os.O_CREAT) as fd:
        write_all(fd, data)


def read_small(path: str) -> bytes:
    """The first 4096 bytes of a file: all of most files in /proc and /sys. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY)
    try:  # not `opened`, which takes a fifth longer: a snapshot reads thousands
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def make_directory(path: str) -> None:
    """Make a directory for the daemon alone, and those above it; one that is there stays as it is."""
    try:  # the ordinary case first: jobs wait for it
        os.mkdir(path, 0o700)
    except (FileExistsError, FileNotFoundError):
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
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


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
