"""Whose a job is: the rights it runs with, as the kernel told them of whoever submitted it.

Nothing in a message can change them. Groups, umask and limits are those of the process that submitted: what its user
could do there, the job can do, and no more.
"""

import functools
import os
import pwd
import re
import resource
from collections.abc import Iterable

import msgspec

from rised.users.peer import Peer

LIMITS = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "fsize": resource.RLIMIT_FSIZE,
    "data": resource.RLIMIT_DATA,
    "stack": resource.RLIMIT_STACK,
    "rss": resource.RLIMIT_RSS,
    "nproc": resource.RLIMIT_NPROC,
    "nofile": resource.RLIMIT_NOFILE,
    "memlock": resource.RLIMIT_MEMLOCK,
    "as": resource.RLIMIT_AS,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
}
"""The limits that a job takes over, by the names that prlimit(1) has for them."""
_TITLES = {
    "Max core file size": "core",
    "Max cpu time": "cpu",
    "Max file size": "fsize",
    "Max data size": "data",
    "Max stack size": "stack",
    "Max resident set": "rss",
    "Max processes": "nproc",
    "Max open files": "nofile",
    "Max locked memory": "memlock",
    "Max address space": "as",
    "Max pending signals": "sigpending",
    "Max msgqueue size": "msgqueue",
}
_LIMIT = re.compile(r"(.+?)  +(unlimited|\d+) +(unlimited|\d+)(?: |$)")
_PRIVATE = 0o077


class Owner(msgspec.Struct, frozen=True):
    """One user's rights."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Supplementary groups."""
    umask: int = _PRIVATE
    limits: tuple[tuple[str, int, int], ...] = ()
    """Name of a resource limit as prlimit(1) has it, soft and hard value; -1 is no limit."""

    @property
    def all_groups(self) -> set[int]:
        """Its group and the supplementary ones."""
        return {self.gid, *self.groups}

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
        limits = _proc(peer.pid, "limits")
        status = dict(line.split(":", 1) for line in _proc(peer.pid, "status") if ":" in line)
        if {int(uid) for uid in status["Uid"].split()} != {peer.uid}:
            return owner
        umask = int(status["Umask"], 8)
    except (OSError, KeyError):
        return owner
    return msgspec.structs.replace(owner, umask=umask, limits=read_limits(limits))


def _proc(pid: int, name: str) -> list[str]:
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def read_limits(lines: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """The limits that /proc/PID/limits tells. Pure."""
    found = (_LIMIT.match(line) for line in lines)
    return tuple(
        (_TITLES[match[1]], _amount(match[2]), _amount(match[3]))
        for match in found
        if match and match[1] in _TITLES
    )


def _amount(text: str) -> int:
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)


def own() -> Owner:
    """The daemon's own rights."""
    return Owner(os.geteuid(), os.getegid(), tuple(os.getgroups()))


@functools.cache
def of_user(uid: int) -> Owner:
    """The rights that the user database gives, or the daemon's own."""
    if uid == os.geteuid():
        return own()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Owner(uid, uid)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return Owner(uid, user.pw_gid, tuple(groups))
