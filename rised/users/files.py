"""Files that the daemon makes and a user owns."""

import os

from rised.users.owner import Owner


def open_log(path: str, owner: Owner) -> int:
    """Open a log for appending, made for `owner` if it is not there; a descriptor. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o666)
    if owner.is_other:
        give(fd, owner)
    return fd


def give(fd: int, owner: Owner) -> None:
    """Make the file behind a descriptor its owner's, whom alone it is for. Raises `OSError`."""
    os.fchmod(fd, 0o600)
    os.fchown(fd, owner.uid, owner.gid)


def give_file(path: str, owner: Owner) -> None:
    """Make a file in a directory of the daemon's its owner's. Raises `OSError`."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give(fd, owner)
    finally:
        os.close(fd)
