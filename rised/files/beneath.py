"""Finding what a path names without ever leaving the directory that it begins in, whatever is swapped meanwhile.

A path is walked name by name. Each is opened without following it and without opening what is behind it (O_PATH), so a
FIFO, a socket or a device is never touched. A link's text is walked in the same way: what stays below the top is
followed, what does not is refused. So the kernel resolves one name at a time, and nothing that it resolves is a link.
"""

import contextlib
import errno
import os
import stat
from typing import Self

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
_MOST_STEPS = 20_000  # `..` in a link's text begins anew at the top
_ALL = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class LeadsOut(OSError):
    """A link on the way leads out of the directory that the path begins in."""


class Handle:
    """An open descriptor: closed at the end of its `with`, and otherwise with its last user."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close it; once is enough."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def stat(self) -> os.stat_result:
        """What it is."""
        return os.fstat(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


class Top:
    """The directory that paths begin in and do not leave. Nobody but its owner may be able to swap it."""

    def __init__(self, path: str) -> None:
        """Raises `OSError`."""
        self.path = os.fsencode(path).rstrip(b"/")
        self._fd = Handle(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def find(self, path: bytes) -> Handle:
        """What `path` names, links followed; only to be looked at. Raises `OSError`, of which `LeadsOut`."""
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
            found = Handle(os.open(part, _LOOK, dir_fd=here.fd))
            mode = found.stat().st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MOST_LINKS:
                    break
                target = os.readlink(b"", dir_fd=found.fd)
                if target.startswith(b"/"):
                    target, done, here = self._below(target), [], self._here()
                todo += _reversed(target)
                continue
            if todo and not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            here = found
            done.append(part)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def find_above(self, path: bytes) -> tuple[Handle, bytes]:
        """The directory in which `path`'s last name is or could be, and that name. Raises as `find`."""
        above, _, name = path.rpartition(b"/")
        folder = self.find(above)
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return folder, name

    def _here(self) -> Handle:
        return Handle(os.dup(self._fd.fd))

    def _below(self, target: bytes) -> bytes:
        """An absolute `target` as a path from here."""
        if target == self.path or target.startswith(self.path + b"/"):
            return target[len(self.path) :]
        raise LeadsOut(errno.EXDEV, os.strerror(errno.EXDEV))


def reopen(handle: Handle, flags: int) -> Handle:
    """Open what was only looked at; the caller has seen that it is a regular file or a directory. Raises `OSError`."""
    return Handle(os.open(f"/proc/self/fd/{handle.fd}", flags | _ALL))


def open_regular(folder: Handle, name: bytes, flags: int) -> Handle:
    """Open the regular file `name`, not a link, in `folder`. Raises `OSError`; `EINVAL` if it is something else."""
    with Handle(os.open(name, _LOOK, dir_fd=folder.fd)) as found:
        if not stat.S_ISREG(found.stat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return reopen(found, flags)


def _reversed(path: bytes) -> list[bytes]:
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
