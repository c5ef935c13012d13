"""Listing and removing trees, however deep: one directory is open at a time, and no link is followed.

Both are generators, so that whoever runs them can stop between two steps; they must be run with the rights of whoever
asked. The way up goes through `..` and is checked: a directory that was moved meanwhile ends the walk.
"""

import errno
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import msgspec

from rised.files.beneath import Handle, reopen
from riseml_proto.messages import FileInfo
from riseml_proto.paths import quote
from riseml_proto.uris import LONGEST

_MOST_NAMES = 1_000_000
_DEEPEST = LONGEST - 256  # a name more still makes a path that can be said
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1 = -62_135_596_800_000_000  # microseconds
_YEAR_9999 = 253_402_300_799_999_999


class _Descent:
    """A directory that is open, and which ones are above it up to where it began."""

    def __init__(self, folder: Handle) -> None:
        self.here = folder
        self._above: list[tuple[int, int]] = []

    def enter(self, name: bytes) -> None:
        """Raises `OSError`, also where there would be no way back."""
        found = Handle(os.open(name, _FOLDER, dir_fd=self.here.fd))
        os.stat(b".", dir_fd=found.fd)
        self._above.append(_identity(self.here))
        self.here = found

    def leave(self) -> None:
        """Raises `OSError`."""
        above = Handle(os.open(b"..", _FOLDER, dir_fd=self.here.fd))
        if _identity(above) != self._above.pop():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self.here = above


def _identity(handle: Handle) -> tuple[int, int]:
    found = handle.stat()
    return found.st_dev, found.st_ino


def describe(found: os.stat_result, path: bytes, target: bytes | None = None) -> FileInfo:
    """A file as messages have it."""
    mode = found.st_mode
    return FileInfo(
        path=quote(path),
        type="file"
        if stat.S_ISREG(mode)
        else "directory"
        if stat.S_ISDIR(mode)
        else "link"
        if stat.S_ISLNK(mode)
        else "other",
        size=found.st_size if stat.S_ISREG(mode) else 0,
        mtime=_moment(found.st_mtime_ns),
        executable=stat.S_ISREG(mode) and bool(mode & 0o111),
        version=f"{found.st_mtime_ns:x}.{found.st_ino:x}.{found.st_size:x}",
        target=None if target is None else quote(target),
    )


def _moment(ns: int) -> datetime:
    """The nearest time that a message can carry: a file may say that it is of the year 300,000."""
    return _EPOCH + timedelta(microseconds=min(max(ns // 1000, _YEAR_1), _YEAR_9999))


def listing(found: Handle, *, inside: bool = True, recursive: bool = False) -> Iterator[FileInfo]:
    """`found` itself, then what is in it, by name; what is in a directory follows it. Raises `OSError`.

    What cannot be read has an `error`, and the rest goes on.
    """
    itself = found.stat()
    yield describe(itself, b"")
    if not (inside and stat.S_ISDIR(itself.st_mode)):
        return
    descent = _Descent(reopen(found, _FOLDER & ~os.O_NOFOLLOW))
    prefix, left = b"", [_names(descent.here)]
    while left:
        if not left[-1]:
            left.pop()
            if left:
                descent.leave()
                prefix = prefix[: prefix.rfind(b"/", 0, -1) + 1]
            continue
        name = left[-1].pop()
        if (info := _look(descent.here, prefix, name)) is None:
            continue
        if recursive and info.type == "directory":
            if len(prefix) + len(name) > _DEEPEST:
                yield msgspec.structs.replace(info, error="its path is too long")
                continue
            try:
                descent.enter(name)
            except OSError as error:
                yield _failed(info, error)
                continue
            yield info
            prefix += name + b"/"
            try:
                left.append(_names(descent.here))
            except OSError as error:
                left.append([])
                yield _failed(info, error)
        else:
            yield info


def _names(folder: Handle) -> list[bytes]:
    """What is in a directory, the first name last. Raises `OSError`."""
    with os.scandir(folder.fd) as entries:
        names = [os.fsencode(entry.name) for entry in islice(entries, _MOST_NAMES + 1)]
    if len(names) > _MOST_NAMES:
        raise OSError(errno.EFBIG, f"it has more than {_MOST_NAMES:,} entries")
    names.sort(reverse=True)
    return names


def _look(folder: Handle, prefix: bytes, name: bytes) -> FileInfo | None:
    """None: it is gone."""
    try:
        found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        is_link = stat.S_ISLNK(found.st_mode)
        target = os.readlink(name, dir_fd=folder.fd) if is_link else None
    except FileNotFoundError:
        return None
    except OSError as error:
        return FileInfo(path=quote(prefix + name), type="other", error=error.strerror)
    return describe(found, prefix + name, target)


def _failed(info: FileInfo, error: OSError) -> FileInfo:
    return msgspec.structs.replace(info, error=error.strerror)


def remove(folder: Handle, name: bytes, *, recursive: bool) -> Iterator[None]:
    """Remove `name` in `folder`, a step for each thing that is gone.

    Raises `OSError`: `EISDIR` for a directory where not `recursive`.
    """
    if not _is_directory(folder, name):
        os.unlink(name, dir_fd=folder.fd)
        yield
        return
    if not recursive:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    descent = _Descent(reopen(folder, _FOLDER & ~os.O_NOFOLLOW))
    descent.enter(name)
    entered = [name]
    while entered:
        inside = None
        with os.scandir(descent.here.fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inside = os.fsencode(entry.name)
                    break
                os.unlink(entry.name, dir_fd=descent.here.fd)
                yield
        if inside is not None:
            descent.enter(inside)
            entered.append(inside)
        else:
            descent.leave()
            os.rmdir(entered.pop(), dir_fd=descent.here.fd)
            yield


def _is_directory(folder: Handle, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_mode)
