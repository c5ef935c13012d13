"""A file of the project as the scan saw it, and its content while it is still that file."""

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

_NOT_THAT_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # ELOOP: a link has taken its place
_CHUNK = 1 << 20  # bytes read at once: a file of many GB costs no memory


class FileStamp(NamedTuple):
    """What changes when a file's content does. Times in ns."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, info: os.stat_result) -> "FileStamp":
        """The stamp in the answer of `stat`."""
        return cls(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


class ScannedFile(NamedTuple):
    """One file. `path` is relative to the project; `target` is None unless `mode` is LINK."""

    path: bytes
    mode: int
    stamp: FileStamp
    target: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of its content, which is a link's target."""
        return self.stamp.size if self.target is None else len(self.target)


def read(root: bytes, source: ScannedFile) -> Iterator[bytes]:
    """The content in chunks.

    Raises `SyncError` as soon as it is not what the scan saw, or cannot be read.
    """
    if source.target is not None:
        yield source.target
        return
    try:
        # O_NONBLOCK: had a pipe taken the file's place, opening it would wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(root + b"/" + source.path, flags)
        try:
            yield from _unchanged(fd, source)
        finally:
            os.close(fd)
    except OSError as error:
        raise trouble(source.path, error) from None


def _unchanged(fd: int, source: ScannedFile) -> Iterator[bytes]:
    _compare(fd, source)
    left = source.size
    while left:
        chunk = os.read(fd, min(left, _CHUNK))
        if not chunk:
            raise changed(source.path)
        left -= len(chunk)
        yield chunk
    _compare(fd, source)


def _compare(fd: int, source: ScannedFile) -> None:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or FileStamp.of(info) != source.stamp:
        raise changed(source.path)


def show(path: bytes) -> str:
    """`path` for an error message: on one line, whatever it is made of."""
    text = quote(path) or "."
    return text if text.isprintable() else repr(text)


def changed(path: bytes) -> SyncError:
    """The error for a file that is not any more what it was when the sync began."""
    return SyncError(
        f"{show(path)} changed while it was being synced; run riseml train again when nothing "
        "writes to it, or list it in .risemlignore"
    )


def trouble(path: bytes, error: OSError) -> SyncError:
    """The error for a file or directory that the system does not let us read."""
    if error.errno in _NOT_THAT_FILE:
        return changed(path)
    return SyncError(
        f"{show(path)} cannot be read ({error.strerror}); make it readable, or list it in "
        ".risemlignore"
    )
