"""The owner of a job: the rights that it runs with, as the kernel knows them of the process that submitted it.

No message can change them. Groups, umask and limits are those of that process: the job can do what its user could do
there, and no more.
"""

import functools
import os
import pwd
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rised.users.peer import Peer

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
LIMITS: dict[str, int] = {
    name: getattr(resource, f"RLIMIT_{name.upper()}") for name in _TITLES.values()
}
"""The resource limits that a job takes over, by their names in prlimit(1)."""
_LIMIT = re.compile(r"(?m)^(.+?)  +(unlimited|\d+) +(unlimited|\d+)(?: |$)")
_PRIVATE = 0o077


class Owner(msgspec.Struct, frozen=True):
    """A user's rights: IDs, groups, umask and resource limits."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Supplementary groups."""
    umask: int = _PRIVATE
    limits: tuple[tuple[str, int, int], ...] = ()
    """Name (`LIMITS`), soft and hard value of each resource limit; -1 is no limit."""

    @property
    def all_groups(self) -> set[int]:
        """The user's main group and the supplementary ones."""
        return {self.gid, *self.groups}

    @property
    def is_other(self) -> bool:
        """Whether this is another user than the daemon's."""
        return self.uid != os.geteuid()


def of_peer(peer: Peer) -> Owner:
    """The rights of the process at the other end of a connection.

    If it has ended, its umask and limits are unknown. Then jobs have the daemon's limits, and a umask that lets nobody
    else read. If its pid belongs to another process of the same user by now, that one has no more rights than the user.
    """
    owner = Owner(peer.uid, peer.gid, peer.groups)
    try:
        limits = Path(f"/proc/{peer.pid}/limits").read_text()
        lines = Path(f"/proc/{peer.pid}/status").read_text(errors="replace").splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        if {int(uid) for uid in status["Uid"].split()} != {peer.uid}:
            return owner
        umask = int(status["Umask"], 8)
    except (OSError, KeyError):
        return owner
    return msgspec.structs.replace(owner, umask=umask, limits=_read_limits(limits))


def _read_limits(text: str) -> tuple[tuple[str, int, int], ...]:
    return tuple(
        (_TITLES[title], _amount(soft), _amount(hard))
        for title, soft, hard in _LIMIT.findall(text)
        if title in _TITLES
    )


def _amount(text: str) -> int:
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)


def attainable_limits(owner: Owner) -> Iterator[tuple[str, int, int]]:
    """Name, soft and hard value of each of `owner`'s limits that is not the daemon's; none above its hard limit."""
    for name, soft, hard in owner.limits:
        own = resource.getrlimit(LIMITS[name])
        wanted = _least(soft, own[1]), _least(hard, own[1])
        if wanted != own:
            yield name, *wanted


def _least(*amounts: int) -> int:
    finite = [amount for amount in amounts if amount != resource.RLIM_INFINITY]
    return min(finite, default=resource.RLIM_INFINITY)


def own() -> Owner:
    """The rights of the daemon."""
    return Owner(os.geteuid(), os.getegid(), tuple(os.getgroups()))


@functools.cache
def of_user(uid: int) -> Owner:
    """The rights of a user by the user database; the daemon's for its own user."""
    if uid == os.geteuid():
        return own()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Owner(uid, uid)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return Owner(uid, user.pw_gid, tuple(groups))
