"""A file of the project as the scan saw it, and reading it as it was at one moment."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from riseml_proto.errors import SyncError
from riseml_proto.paths import quote

REGULAR = 0o100644
EXECUTABLE = 0o100755
LINK = 0o120000
DIRECTORY = 0o040000  # one with nothing in it
OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: if a pipe now has the file's name, opening it would wait for a writer."""

GONE = (errno.ENOENT, errno.ENOTDIR)
_NOT_THAT_FILE = (*GONE, errno.ELOOP, errno.ENXIO)  # a link or a socket has taken its place
_CHUNK = 1 << 20  # bytes read at once, so that a large file needs little memory


class FileStamp(NamedTuple):
    """The size, times (ns) and inode of a file: they tell whether its content may have changed."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileStamp":
        """Take the stamp from a result of `stat`."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class ScannedFile(NamedTuple):
    """A file, link or empty directory. `path` is relative to the project; `target` is a link's, otherwise None."""

    path: bytes
    mode: int
    stamp: FileStamp
    target: bytes | None = None
    copy: bytes | None = None
    """Path of a copy of the content, which is read instead of a file that other programs write to."""

    @property
    def size(self) -> int:
        """Bytes of the content; a link's content is its target."""
        return self.stamp.size if self.target is None else len(self.target)


class FileChangedError(Exception):
    """A file is not what it was when the sync began; another look at the project may help. Says so to the user, too."""


def read(root: bytes, source: ScannedFile) -> Iterator[bytes]:
    """The content in chunks: the first `source.size` bytes of the file, which may have grown since.

    Raises `FileChangedError` where the file is gone or shorter, and `SyncError` where it cannot be read.
    """
    if source.target is not None:
        yield source.target
        return
    try:
        fd = os.open(source.copy or root + b"/" + source.path, OPEN_FLAGS)
        with closing(fd):
            status(fd, source)
            yield from pieces(fd, source)
    except OSError as error:
        raise unreadable(source.path, error) from None


def pieces(fd: int, source: ScannedFile) -> Iterator[bytes]:
    """The next `source.size` bytes of `fd`. Raises `FileChangedError` where there are fewer."""
    left = source.size
    while left:
        chunk = os.read(fd, min(left, _CHUNK))
        if not chunk:
            raise changed(source.path)
        left -= len(chunk)
        yield chunk


def status(fd: int, source: ScannedFile) -> FileStamp:
    """The stamp of the file that `fd` is. Raises `FileChangedError` where that is no regular file."""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise changed(source.path)
    return FileStamp.of(info)


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """Close `fd` at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def show(path: bytes) -> str:
    """`path` as an error message shows it, on one line, whatever bytes it has."""
    text = quote(path) or "."
    return text if text.isprintable() else repr(text)


def changed(path: bytes) -> FileChangedError:
    """The error for a file that has changed since the sync began."""
    return FileChangedError(_changed(path))


def _changed(path: bytes) -> str:
    return (
        f"{show(path)} changed while it was being synced; run riseml train again when nothing "
        "writes to it, or list it in .risemlignore"
    )


def unreadable(path: bytes, error: OSError) -> SyncError | FileChangedError:
    """The error for a file that was there and cannot be opened or read now."""
    return changed(path) if error.errno in _NOT_THAT_FILE else trouble(path, error)


def trouble(path: bytes, error: OSError) -> SyncError:
    """The error for a file or directory that cannot be read."""
    if error.errno in _NOT_THAT_FILE:
        return SyncError(_changed(path))
    return SyncError(
        f"{show(path)} cannot be read ({error.strerror}); make it readable, or list it in "
        ".risemlignore"
    )
