"""Whose a job is: the rights it runs with, as the kernel told them of whoever submitted it.

Nothing in a message can change them. Groups, umask and limits are those of the process that submitted: what its user
could do there, the job can do, and no more.
"""

import functools
import os
import pwd
import resource

import msgspec

from rised.store.records import ExperimentRow
from rised.web.request import Peer

_LIMITS = (
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_DATA,
    resource.RLIMIT_STACK,
    resource.RLIMIT_RSS,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_MEMLOCK,
    resource.RLIMIT_AS,
    resource.RLIMIT_SIGPENDING,
    resource.RLIMIT_MSGQUEUE,
    resource.RLIMIT_NICE,
    resource.RLIMIT_RTPRIO,
)
_PRIVATE = 0o077


class Owner(msgspec.Struct, frozen=True):
    """One user's rights."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Supplementary groups."""
    umask: int = _PRIVATE
    limits: tuple[tuple[int, int, int], ...] = ()
    """Number of a resource limit, soft and hard value; -1 is no limit."""

    @property
    def is_other(self) -> bool:
        """Whether these are not the daemon's own rights."""
        return self.uid != os.geteuid()


def of_peer(peer: Peer) -> Owner:
    """The rights of whoever is at the other end of a connection.

    A process that has ended since has left neither umask nor limits; jobs then have those of the daemon, and a umask
    that lets nobody else read. Its number may be another's by now: one of the same user has no more rights than that.
    """
    owner = Owner(peer.uid, peer.gid, peer.groups)
    try:
        limits = tuple((what, *resource.prlimit(peer.pid, what)) for what in _LIMITS)
        with open(f"/proc/{peer.pid}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
        if {int(uid) for uid in status["Uid"].split()} != {peer.uid}:
            return owner
        umask = int(status["Umask"], 8)
    except (OSError, KeyError):
        return owner
    return msgspec.structs.replace(owner, umask=umask, limits=limits)


def encode(owner: Owner) -> str:
    """As the database keeps it."""
    return msgspec.json.encode(owner).decode()


def owner_of(row: ExperimentRow) -> Owner:
    """Whose an experiment is; by the user database where it was submitted to a person's own daemon."""
    return _decode(row.owner) if row.owner else _by_name(row.uid)


@functools.lru_cache(maxsize=1024)
def _decode(text: str) -> Owner:
    return msgspec.json.decode(text, type=Owner)


def own() -> Owner:
    """The daemon's own rights."""
    return Owner(os.geteuid(), os.getegid(), tuple(os.getgroups()))


@functools.cache
def _by_name(uid: int) -> Owner:
    if uid == os.geteuid():
        return own()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Owner(uid, uid)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return Owner(uid, user.pw_gid, tuple(groups))
