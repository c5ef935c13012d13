"""A file that is being copied to this machine: a partial file beside its target, renamed when it is whole.

The partial file's name is a hash of the source, its version there, and this boot of the machine. So a copy is continued
only with the same content, and never after a power cut, when nobody knows which bytes are on the disk.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from riseml_proto.errors import DaemonError, InvalidInput, printable
from riseml_proto.file_messages import FileInfo
from riseml_proto.uris import PART_PREFIX

RESUMABLE = 1 << 20
"""Bytes; a copy of a smaller file is not continued but made again."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def part_of(target: bytes, source: str, version: str) -> bytes:
    """Path of the partial file for `target` that holds this version of `source`."""
    digest = hashlib.blake2b(
        b"\0".join((os.path.basename(target), source.encode(), version.encode(), _boot())),
        digest_size=12,
    )
    return os.path.join(os.path.dirname(target), PART_PREFIX + digest.hexdigest().encode())


def _boot() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read()
    except OSError:  # this machine may be no Linux
        return b""


def size_of(part: bytes) -> int:
    """Bytes in a partial file; 0 where there is none of ours."""
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
            raise InvalidInput(f"{printable(target)} is {kind}; say another name")


def write(target: bytes, part: bytes, info: FileInfo, content: Iterable[bytes]) -> None:
    """Write `content` into `part` from `info.offset` on, then rename it to `target`. A large part stays after an error.

    Raises `OSError`, `InvalidInput` where another process is copying the same, and the errors of `content`.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(part, flags, 0o666)
    whole = False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, info.offset)
        os.lseek(fd, info.offset, os.SEEK_SET)
        for piece in content:
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
        status = os.fstat(fd)
        if status.st_size != info.size:
            raise DaemonError(
                f"{printable(target)}: {status.st_size:,} bytes came of {info.size:,}; copy it again"
            )
        if info.executable:
            os.fchmod(fd, status.st_mode & 0o777 | status.st_mode >> 2 & 0o111)
        if info.mtime is not None:
            ns = microseconds(info.mtime) * 1000
            os.utime(fd, ns=(ns, ns))
        os.rename(part, target)
        whole = True
    except BlockingIOError:
        raise InvalidInput(
            f"{printable(target)} is being copied by another riseml cp; wait for that to end"
        ) from None
    finally:
        os.close(fd)
        if not whole and info.size < RESUMABLE:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def microseconds(moment: datetime) -> int:
    """Microseconds of Unix time, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def modified_at(status: os.stat_result) -> datetime:
    """When a file was last changed, in microseconds, as `FileInfo` has it."""
    return _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
