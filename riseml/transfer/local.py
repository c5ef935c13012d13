"""A file on its way to this machine: beside its target under a hidden name, which is its own only when it is whole.

The name stands for where it comes from, its version there, and this boot of the machine: after a power cut nobody knows
which bytes are on the disk.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable
from datetime import UTC, datetime

from riseml_proto.errors import DaemonError, InvalidInput
from riseml_proto.file_messages import FileInfo

PREFIX = b".riseml-part-"
"""Of such names, also at the daemon: what has one is no file to be copied."""
RESUMABLE = 1 << 20
"""Bytes of a file from which on it is worth going on with."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def part_of(target: bytes, source: str, version: str) -> bytes:
    """Where a version of `source` is until it is `target`."""
    digest = hashlib.blake2b(
        b"\0".join((os.path.basename(target), source.encode(), version.encode(), _boot())),
        digest_size=12,
    )
    return os.path.join(os.path.dirname(target), PREFIX + digest.hexdigest().encode())


def _boot() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read()
    except OSError:  # this machine may be no Linux
        return b""


def size_of(part: bytes) -> int:
    """How much of it is there."""
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(part)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
            return status.st_size
    return 0


def check_target(target: bytes) -> None:
    """Raise `InvalidInput` where a file cannot be put at `target`."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(target).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise InvalidInput(f"{os.fsdecode(target)} is {kind}; say another name")


def write(target: bytes, part: bytes, info: FileInfo, content: Iterable[memoryview]) -> None:
    """Add `content` to what is in `part`, or begin anew if `info` says so, and make it `target`.

    Raises `OSError`, `InvalidInput` where it is copied already, and what `content` raises. A large one is left for the
    next time then.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(part, flags, 0o666)
    whole = False
    try:
        _lock(fd, target)
        os.ftruncate(fd, info.offset)
        os.lseek(fd, info.offset, os.SEEK_SET)
        for piece in content:
            view = piece
            while view:
                view = view[os.write(fd, view) :]
        status = os.fstat(fd)
        if status.st_size != info.size:
            raise DaemonError(
                f"{os.fsdecode(target)}: {status.st_size:,} bytes came of {info.size:,}; copy it again"
            )
        if info.executable:
            os.fchmod(fd, status.st_mode & 0o777 | status.st_mode >> 2 & 0o111)
        if info.mtime is not None:
            ns = microseconds(info.mtime) * 1000
            os.utime(fd, ns=(ns, ns))
        os.rename(part, target)
        whole = True
    finally:
        os.close(fd)
        if not whole and info.size < RESUMABLE:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def _lock(fd: int, target: bytes) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidInput(
            f"{os.fsdecode(target)} is being copied by another riseml cp; wait for that to end"
        ) from None


def microseconds(moment: datetime) -> int:
    """Since the epoch."""
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
