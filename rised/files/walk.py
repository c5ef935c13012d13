"""Listing and removing trees of any depth. One directory is open at a time, and no link is followed.

Both are generators, so that their caller can stop between two steps. They must run with the rights of the user who asks
for it. The way up goes through `..` and is checked: if a directory was moved meanwhile, the walk ends.
"""

import errno
import os
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

import msgspec

from rised.clock import EPOCH
from rised.files.beneath import Handle, reopen
from riseml_proto.file_messages import FileInfo
from riseml_proto.paths import quote
from riseml_proto.uris import LONGEST

_MOST_NAMES = 1_000_000
_DEEPEST = LONGEST - 256  # with one more name the path is still a valid one
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_YEAR_1 = -62_135_596_800_000_000  # microseconds
_YEAR_9999 = 253_402_300_799_999_999


class _Descent:
    """An open directory, and the identities of those above it up to where the walk began."""

    def __init__(self, folder: Handle) -> None:
        self.here = folder
        self._above: list[tuple[int, int]] = []

    def enter(self, name: bytes) -> None:
        """Go down into `name`. Raises `OSError`, also where the way back up would fail."""
        below = Handle(os.open(name, _FOLDER, dir_fd=self.here.fd))
        os.stat(b".", dir_fd=below.fd)
        self._above.append(_identity(self.here))
        self.here = below

    def leave(self) -> None:
        """Go up again. Raises `OSError`, with `ESTALE` where the directory was moved."""
        above = Handle(os.open(b"..", _FOLDER, dir_fd=self.here.fd))
        if _identity(above) != self._above.pop():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self.here = above


def _identity(handle: Handle) -> tuple[int, int]:
    status = handle.stat()
    return status.st_dev, status.st_ino


def describe(status: os.stat_result, path: bytes, target: bytes | None = None) -> FileInfo:
    """The message about a file. `target`: the text of a link."""
    mode = status.st_mode
    return FileInfo(
        path=quote(path),
        type=_TYPES.get(stat.S_IFMT(mode), "other"),
        size=status.st_size if stat.S_ISREG(mode) else 0,
        mtime=_moment(status.st_mtime_ns),
        executable=stat.S_ISREG(mode) and bool(mode & 0o111),
        version=f"{status.st_mtime_ns:x}.{status.st_ino:x}.{status.st_size:x}",
        target=None if target is None else quote(target),
    )


def _moment(ns: int) -> datetime:
    """The nearest time that a message can hold: a file's own may be in the year 300,000."""
    return EPOCH + timedelta(microseconds=min(max(ns // 1000, _YEAR_1), _YEAR_9999))


def listing(start: Handle, *, inside: bool = True, recursive: bool = False) -> Iterator[FileInfo]:
    """`start` itself, then its entries by name; with `recursive`, those of a directory follow it. Raises `OSError`.

    An entry that cannot be read has an `error`, and the listing goes on.
    """
    itself = start.stat()
    yield describe(itself, b"")
    if not (inside and stat.S_ISDIR(itself.st_mode)):
        return
    descent = _Descent(reopen(start, _FOLDER & ~os.O_NOFOLLOW))
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
                yield msgspec.structs.replace(info, error=error.strerror)
                continue
            yield info
            prefix += name + b"/"
            try:
                left.append(_names(descent.here))
            except OSError as error:
                left.append([])
                yield msgspec.structs.replace(info, error=error.strerror)
        else:
            yield info


def _names(folder: Handle) -> list[bytes]:
    """The names in a directory, from the last to the first. Raises `OSError`."""
    with os.scandir(folder.fd) as entries:
        names = [os.fsencode(entry.name) for entry in islice(entries, _MOST_NAMES + 1)]
    if len(names) > _MOST_NAMES:
        raise OSError(errno.EFBIG, f"it has more than {_MOST_NAMES:,} entries")
    names.sort(reverse=True)
    return names


def _look(folder: Handle, prefix: bytes, name: bytes) -> FileInfo | None:
    """The message about `prefix` + `name`; None where it is gone."""
    try:
        status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        is_link = stat.S_ISLNK(status.st_mode)
        target = os.readlink(name, dir_fd=folder.fd) if is_link else None
    except FileNotFoundError:
        return None
    except OSError as error:
        return FileInfo(path=quote(prefix + name), type="other", error=error.strerror)
    return describe(status, prefix + name, target)


def remove(folder: Handle, name: bytes, *, recursive: bool) -> Iterator[None]:
    """Remove `name` in `folder`, one file or directory a step.

    Raises `OSError`, with `EISDIR` for a directory without `recursive`.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_mode):
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
