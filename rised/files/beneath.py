"""Finding what a path names without leaving the directory in which it begins, whatever users swap meanwhile.

A path is walked name by name. Each name is opened without following links and without touching what it stands for
(O_PATH), so that no FIFO, socket or device is opened. The text of a link is walked in the same way: it is followed
below the top, and refused where it leads out. So the kernel resolves one name at a time, and never a link.
"""

import contextlib
import errno
import os
import stat
from typing import Self

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
_MOST_STEPS = 20_000  # after a `..` in a link's text the walk begins anew at the top
_ALL = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class LeadsOut(OSError):
    """A link on the way leads out of the directory in which the path begins. `problems` words it for users."""


class Handle:
    """An open descriptor. It is closed at the end of a `with`, or when nobody refers to it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def stat(self) -> os.stat_result:
        """The status of the open file. Raises `OSError`."""
        return os.fstat(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


class Top:
    """The directory in which paths begin and which they do not leave. Only its owner may be able to swap it."""

    def __init__(self, path: str) -> None:
        """Open the directory `path`. Raises `OSError`."""
        self.path = os.fsencode(path).rstrip(b"/")
        self._fd = Handle(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def find(self, path: bytes) -> Handle:
        """What `path` names, with links followed; opened to look at, not to read. Raises `OSError`, `LeadsOut`."""
        todo, done, here = _reversed(path), list[bytes](), self._here()
        links = 0
        for _ in range(_MOST_STEPS):
            if not todo:
                return here
            part = todo.pop()
            if part == b"..":
                if not done:
                    raise LeadsOut(errno.EXDEV, os.strerror(errno.EXDEV))
                todo += reversed(done[:-1])
                done, here = [], self._here()
                continue
            entry = Handle(os.open(part, _LOOK, dir_fd=here.fd))
            mode = entry.stat().st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MOST_LINKS:
                    break
                target = os.readlink(b"", dir_fd=entry.fd)
                if target.startswith(b"/"):
                    target, done, here = self._below(target), [], self._here()
                todo += _reversed(target)
                continue
            if todo and not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            here = entry
            done.append(part)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def find_above(self, path: bytes) -> tuple[Handle, bytes]:
        """The directory of `path`'s last name, which need not exist, and that name. Raises what `find` raises."""
        above, _, name = path.rpartition(b"/")
        return self.find_directory(above), name

    def find_directory(self, path: bytes) -> Handle:
        """The directory `path`. Raises what `find` raises, and `NotADirectoryError`."""
        folder = self.find(path)
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return folder

    def _here(self) -> Handle:
        return Handle(os.dup(self._fd.fd))

    def _below(self, target: bytes) -> bytes:
        """An absolute `target` as a path from the top. Raises `LeadsOut`."""
        if target == self.path or target.startswith(self.path + b"/"):
            return target[len(self.path) :]
        raise LeadsOut(errno.EXDEV, os.strerror(errno.EXDEV))


def reopen(handle: Handle, flags: int) -> Handle:
    """Open what `find` gave; the caller has seen that it is a regular file or a directory. Raises `OSError`."""
    return Handle(os.open(f"/proc/self/fd/{handle.fd}", flags | _ALL))


def open_regular(folder: Handle, name: bytes, flags: int) -> Handle:
    """Open the regular file `name`, not a link, in `folder`. Raises `OSError`, with `EINVAL` for all else."""
    with Handle(os.open(name, _LOOK, dir_fd=folder.fd)) as entry:
        if not stat.S_ISREG(entry.stat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return reopen(entry, flags)


def _reversed(path: bytes) -> list[bytes]:
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
