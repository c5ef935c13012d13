"""A file that is being uploaded: it has a hidden name beside its target, and is renamed when all of it is on disk.

So a reader of the target sees the old file or the new one. The hidden name is made of the target's name, the sender's
version of the content and the machine's boot id. By it an interrupted upload is found again and continued; not after a
power cut, when nobody knows which bytes are on the disk. A lock keeps two uploads of one file apart; the kernel
releases it when its holder dies.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from datetime import datetime, timedelta

from rised.clock import since_epoch
from rised.crashpoints import crash_point
from rised.files.beneath import Handle, open_regular, reopen
from rised.linux.files import write_all
from rised.linux.processes import boot_id
from rised.users.owner import Owner
from riseml_proto.errors import InvalidInput
from riseml_proto.uris import PART_PREFIX

_TRIES = 10
_DIRTY = 16 << 20


class PartialFile:
    """One file that is being uploaded. It holds the lock until it is closed."""

    def __init__(
        self, folder: Handle, name: bytes, version: str, offset: int, owner: Owner
    ) -> None:
        """Continue at `offset`, or begin at 0. Raises `OSError`, `InvalidInput` where it cannot be continued."""
        self._folder, self._name, self._owner = folder, name, owner
        self._hidden = hidden_name(name, version)
        self._unsynced = 0
        with contextlib.suppress(FileNotFoundError):
            target = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            if stat.S_ISDIR(target.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._file = self._open()
        size = self._file.stat().st_size
        if size < offset:
            if not size:
                self.discard()
            raise InvalidInput("less of it is there than was said; the same command begins anew")
        os.ftruncate(self._file.fd, offset)
        os.lseek(self._file.fd, offset, os.SEEK_SET)

    def _open(self) -> Handle:
        """Open the hidden file and lock it; make it if it does not exist."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                try:
                    file = Handle(os.open(self._hidden, flags, 0o600, dir_fd=self._folder.fd))
                except FileExistsError:
                    file = open_regular(self._folder, self._hidden, os.O_RDWR)
                opened = file.stat()
                if opened.st_uid != self._owner.uid or opened.st_nlink > 1:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                try:
                    fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InvalidInput("it is being sent already; wait for that to end") from None
                named = os.stat(self._hidden, dir_fd=self._folder.fd, follow_symlinks=False)
                if os.path.samestat(named, opened):  # it was not renamed or removed before the lock
                    return file
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`. Raises `OSError`; on a full disk the bytes that fit are kept."""
        write_all(self._file.fd, data)
        self._unsynced += len(data)
        if self._unsynced >= _DIRTY:  # so that not all is left to be written at the end
            self._unsynced = 0
            self.start_sync()

    def start_sync(self) -> None:
        """Let the kernel begin to write the file to the disk."""
        os.posix_fadvise(self._file.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self, mtime: datetime | None, *, executable: bool) -> None:
        """Set the mode and the modification time, and return when all is on disk. Raises `OSError`."""
        fd = self._file.fd
        os.fchmod(fd, self._mode(executable=executable))
        if mtime is not None:
            ns = since_epoch(mtime) // timedelta(microseconds=1) * 1000
            os.utime(fd, ns=(ns, ns))
        os.fsync(fd)

    def _mode(self, *, executable: bool) -> int:
        """The mode: that of the owner's file that it replaces, otherwise what the owner's umask gives."""
        with contextlib.suppress(FileNotFoundError):
            replaced = os.stat(self._name, dir_fd=self._folder.fd, follow_symlinks=False)
            if stat.S_ISREG(replaced.st_mode) and replaced.st_uid == self._owner.uid:
                kept = replaced.st_mode & 0o666
                return kept | (kept >> 2) & 0o111 if executable else kept
        return (0o777 if executable else 0o666) & ~self._owner.umask

    def publish(self) -> None:
        """Rename it to its target. The new name is on disk once the directory is. Raises `OSError`."""
        crash_point("part-synced")
        os.rename(self._hidden, self._name, src_dir_fd=self._folder.fd, dst_dir_fd=self._folder.fd)
        crash_point("part-published")

    def discard(self) -> None:
        """Remove it, because it is too small to be worth continuing. Raises nothing."""
        with contextlib.suppress(OSError):
            os.unlink(self._hidden, dir_fd=self._folder.fd)
        self.close()

    def close(self) -> None:
        """Close it and keep it, so that it can be continued."""
        self._file.close()


def size_of(folder: Handle, name: bytes, version: str, owner: Owner) -> int:
    """The bytes of an interrupted upload; 0 without one. Raises `OSError`."""
    try:
        status = os.stat(hidden_name(name, version), dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) and status.st_uid == owner.uid else 0


def remove_stale(folder: Handle, name: bytes, version: str) -> None:
    """Remove interrupted uploads of other versions to the same target. Raises nothing."""
    ours = hidden_name(name, version)
    family = ours.rpartition(b"-")[0] + b"-"
    with (
        contextlib.suppress(OSError),
        reopen(folder, os.O_RDONLY | os.O_DIRECTORY) as listed,
        os.scandir(listed.fd) as entries,
    ):
        for other in (os.fsencode(entry.name) for entry in entries):
            if other.startswith(family) and other != ours:
                with contextlib.suppress(OSError), open_regular(folder, other, os.O_RDONLY) as old:
                    # This fails where it is being sent.
                    fcntl.flock(old.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(other, dir_fd=folder.fd)


def hidden_name(name: bytes, version: str) -> bytes:
    """The hidden name of the file while a version of `name` is uploaded."""
    family = hashlib.blake2b(name, digest_size=6).hexdigest()
    content = hashlib.blake2b(f"{version}\0{boot_id()}".encode(), digest_size=8).hexdigest()
    return PART_PREFIX + f"{family}-{content}".encode()
