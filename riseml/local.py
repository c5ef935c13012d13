"""Files on this side of a copy: written under a hidden name beside their place, and taken up again where that was left.

The hidden name stands for the content's version, so what is left of another content is never gone on with.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from datetime import datetime

from riseml_proto.errors import InvalidInput
from riseml_proto.paths import quote

_PART = b".riseml-part-"
_PIECE = 1 << 20


class Incoming:
    """A file that is being written."""

    def __init__(self, path: bytes, version: str) -> None:
        """Nothing is opened yet."""
        directory, name = os.path.split(path)
        mark = hashlib.sha256(name + b"\0" + version.encode()).hexdigest()[:16].encode()
        self._path, self._part = path, os.path.join(directory, _PART + mark)

    @property
    def size(self) -> int:
        """Bytes that an interrupted copy has left."""
        try:
            found = os.lstat(self._part)
        except FileNotFoundError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def write(
        self, offset: int, pieces: Iterator[bytes], *, mtime: datetime | None, executable: bool
    ) -> None:
        """Write what comes from `offset` on, then put the file into its place. Raises `OSError`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._part, flags, 0o666)
        try:
            os.ftruncate(fd, offset)
            os.lseek(fd, offset, os.SEEK_SET)
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            if executable:
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                os.fchmod(fd, mode | (mode & 0o444) >> 2)
            if mtime:
                os.utime(fd, (mtime.timestamp(), mtime.timestamp()))
        finally:
            os.close(fd)
        os.replace(self._part, self._path)


def version(found: os.stat_result) -> str:
    """What stands for a local file's content."""
    return f"{found.st_mtime_ns:x}.{found.st_ino:x}.{found.st_size:x}"


def pieces(path: bytes, offset: int, size: int) -> Iterator[bytes]:
    """The bytes of a file from `offset` to `size`. Raises `InvalidInput` where it became shorter."""
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while offset < size:
            data = file.read(min(_PIECE, size - offset))
            if not data:
                raise InvalidInput(f"{quote(path)} became shorter while it was read; try again")
            offset += len(data)
            yield data


def walk(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """What is in a directory, as paths relative to it; a directory before what is in it, links not followed."""
    left = [b""]
    while left:
        here = left.pop()
        with os.scandir(os.path.join(top, here)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = os.path.join(here, entry.name)
            status = entry.stat(follow_symlinks=False)
            if entry.name.startswith(_PART):
                continue
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                left.append(path)
