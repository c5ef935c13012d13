"""Who is at the other end of a connection."""

from typing import NamedTuple


class Peer(NamedTuple):
    """Who is at the other end, as the kernel says."""

    pid: int
    uid: int
    gid: int
    user: str
    groups: tuple[int, ...] = ()
    """Supplementary groups."""
