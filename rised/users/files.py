"""Files that the daemon makes for a user."""

import os

from rised.users.owner import Owner


def open_log(path: str, owner: Owner, *, append: bool = True) -> int:
    """Open a log for writing, as a descriptor; make it if it is not there. It is `owner`'s. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags | (os.O_APPEND if append else 0), 0o666)
    if owner.is_other:
        give(fd, owner)
    return fd


def give(fd: int, owner: Owner) -> None:
    """Give the file behind a descriptor to `owner`, who alone may use it. Raises `OSError`."""
    os.fchmod(fd, 0o600)
    os.fchown(fd, owner.uid, owner.gid)
