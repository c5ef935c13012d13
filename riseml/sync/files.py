"""A file of the project as the scan saw it, and reading it as long as it has not changed."""

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from riseml_proto.errors import SyncError
from riseml_proto.paths import quote

REGULAR = 0o100644
EXECUTABLE = 0o100755
LINK = 0o120000
OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: if a pipe now has the file's name, opening it would wait for a writer."""

_NOT_THAT_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # ELOOP: a link has taken its place
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
    """A file or link. `path` is relative to the project; `target` is a link's, otherwise None."""

    path: bytes
    mode: int
    stamp: FileStamp
    target: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of the content; a link's content is its target."""
        return self.stamp.size if self.target is None else len(self.target)


def read(root: bytes, source: ScannedFile) -> Iterator[bytes]:
    """The content in chunks. Raises `SyncError` where the file has changed since the scan or cannot be read."""
    if source.target is not None:
        yield source.target
        return
    try:
        fd = os.open(root + b"/" + source.path, OPEN_FLAGS)
        try:
            _compare(fd, source)
            left = source.size
            while left:
                chunk = os.read(fd, min(left, _CHUNK))
                if not chunk:
                    raise changed(source.path)
                left -= len(chunk)
                yield chunk
            _compare(fd, source)
        finally:
            os.close(fd)
    except OSError as error:
        raise trouble(source.path, error) from None


def _compare(fd: int, source: ScannedFile) -> None:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or FileStamp.of(info) != source.stamp:
        raise changed(source.path)


def show(path: bytes) -> str:
    """`path` as an error message shows it, on one line, whatever bytes it has."""
    text = quote(path) or "."
    return text if text.isprintable() else repr(text)


def changed(path: bytes) -> SyncError:
    """The error for a file that has changed since the sync began."""
    return SyncError(
        f"{show(path)} changed while it was being synced; run riseml train again when nothing "
        "writes to it, or list it in .risemlignore"
    )


def trouble(path: bytes, error: OSError) -> SyncError:
    """The error for a file or directory that cannot be read."""
    if error.errno in _NOT_THAT_FILE:
        return changed(path)
    return SyncError(
        f"{show(path)} cannot be read ({error.strerror}); make it readable, or list it in "
        ".risemlignore"
    )
