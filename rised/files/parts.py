"""A file on its way in: written under a hidden name beside its target, and in its place only when all of it is on disk.

Whoever looks at the target sees the old file or the new one. What an interrupted upload leaves is found again by its
name, which stands for the target, the sender's version of the content, and this boot of the machine: after a power cut
nobody knows which of its bytes are on the disk, so it is not gone on with. A lock keeps two uploads apart; the kernel
drops it with its holder.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from datetime import UTC, datetime

from rised.crashpoints import crash_point
from rised.files.beneath import Handle, open_regular
from rised.linux.files import write_all
from rised.linux.processes import boot_id
from rised.users.owner import Owner
from riseml_proto.errors import InvalidInput
from riseml_proto.uris import PART_PREFIX

_TRIES = 10
_DIRTY = 16 << 20


class PartialFile:
    """One file on its way in."""

    def __init__(
        self, folder: Handle, name: bytes, version: str, offset: int, owner: Owner
    ) -> None:
        """Go on at `offset`, or begin at 0. Raises `OSError`, and `InvalidInput` where it cannot be gone on with."""
        self._folder, self._name, self._owner = folder, name, owner
        self._part = part_name(name, version)
        self._unsynced = 0
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._file = self._open()
        if self._file.stat().st_size < offset:
            raise InvalidInput("less of it is there than was said; the same command begins anew")
        os.ftruncate(self._file.fd, offset)
        os.lseek(self._file.fd, offset, os.SEEK_SET)

    def _open(self) -> Handle:
        """The part, locked, and made if it is not there."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                try:
                    file = Handle(os.open(self._part, flags, 0o600, dir_fd=self._folder.fd))
                except FileExistsError:
                    file = open_regular(self._folder, self._part, os.O_RDWR)
                found = file.stat()
                if found.st_uid != self._owner.uid or found.st_nlink > 1:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                try:
                    fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InvalidInput("it is being sent already; wait for that to end") from None
                there = os.stat(self._part, dir_fd=self._folder.fd, follow_symlinks=False)
                if os.path.samestat(there, file.stat()):
                    return file
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def write(self, data: bytes | memoryview) -> None:
        """Add `data`. Raises `OSError`; what fits on a full disk is kept."""
        write_all(self._file.fd, data)
        self._unsynced += len(data)
        if self._unsynced >= _DIRTY:  # the disk works while more comes, instead of all at the end
            self._unsynced = 0
            self.start_sync()

    def start_sync(self) -> None:
        """Let the kernel begin to write it to the disk."""
        os.posix_fadvise(self._file.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self, mtime: datetime | None, *, executable: bool) -> None:
        """Return when all of it is on disk, with the mode and time that it is to have."""
        fd = self._file.fd
        os.fchmod(fd, self._mode(executable=executable))
        if mtime is not None:
            ns = nanoseconds(mtime)
            os.utime(fd, ns=(ns, ns))
        os.fsync(fd)

    def _mode(self, *, executable: bool) -> int:
        """A new file's, by its owner's umask; one that replaces another of the owner's is as open as that was."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._name, dir_fd=self._folder.fd, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and found.st_uid == self._owner.uid:
                kept = found.st_mode & 0o666
                return kept | (kept >> 2) & 0o111 if executable else kept
        return (0o777 if executable else 0o666) & ~self._owner.umask

    def publish(self) -> None:
        """Put it in its place; its name is on disk when its directory is."""
        crash_point("part-synced")
        os.rename(self._part, self._name, src_dir_fd=self._folder.fd, dst_dir_fd=self._folder.fd)
        crash_point("part-published")

    def discard(self) -> None:
        """Remove it: it is too small to be gone on with."""
        with contextlib.suppress(OSError):
            os.unlink(self._part, dir_fd=self._folder.fd)
        self.close()

    def close(self) -> None:
        """Leave it as it is."""
        self._file.close()


def size_of(folder: Handle, name: bytes, version: str, owner: Owner) -> int:
    """How many bytes of an interrupted upload are there; 0 for none. Raises `OSError`."""
    try:
        found = os.stat(part_name(name, version), dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_uid == owner.uid else 0


def remove_stale(folder: Handle, name: bytes, version: str) -> None:
    """Remove what interrupted uploads of other versions to the same target have left. Raises nothing."""
    ours = part_name(name, version)
    family = ours.rpartition(b"-")[0] + b"-"
    with (
        contextlib.suppress(OSError),
        Handle(
            os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder.fd)
        ) as listed,
        os.scandir(listed.fd) as entries,
    ):
        for found in (os.fsencode(entry.name) for entry in entries):
            if found.startswith(family) and found != ours:
                with contextlib.suppress(OSError), open_regular(folder, found, os.O_RDONLY) as old:
                    fcntl.flock(old.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(found, dir_fd=folder.fd)


def part_name(name: bytes, version: str) -> bytes:
    """The hidden name of a version of `name` on its way in."""
    family = hashlib.blake2b(name, digest_size=6).hexdigest()
    content = hashlib.blake2b(f"{version}\0{boot_id()}".encode(), digest_size=8).hexdigest()
    return PART_PREFIX + f"{family}-{content}".encode()


def nanoseconds(moment: datetime) -> int:
    """Since the epoch."""
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
