"""The process at the other end of a connection."""

import pwd
from typing import NamedTuple


class Peer(NamedTuple):
    """A process and its user, as the kernel identifies them (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int
    user: str
    groups: tuple[int, ...] = ()
    """Supplementary groups."""


def user_name(uid: int) -> str:
    """The user's name, or `uid-1000` for a user without one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
