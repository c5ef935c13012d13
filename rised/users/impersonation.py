"""Using files with a user's rights instead of root's.

So no link or directory that a user prepares or swaps leads to anything that this user could not reach alone.

For files the kernel checks the file-system user and the groups of one thread. setfsuid and setfsgid of libc change them
for the calling thread. setgroups is called by its number, since libc's would change all threads. For signals and ptrace
the thread stays root's.
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

from rised.users.owner import Owner
from riseml_proto.errors import DaemonError

_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def impersonating(owner: Owner) -> Iterator[None]:
    """In this scope the thread opens, makes and removes files as `owner`. It must not await anything."""
    if not owner.is_other:
        yield
        return
    before = os.getgroups()
    try:
        _set_groups(owner.groups)
        _set_ids(owner.uid, owner.gid)
        yield
    finally:
        _set_ids(os.geteuid(), os.getegid())
        _set_groups(before)


def check() -> None:
    """Raise `DaemonError` where the daemon cannot use files as other users."""
    if platform.machine() not in _SETGROUPS:
        raise DaemonError(f"rised --system does not run on {platform.machine()} yet")
    if os.geteuid() != 0:
        raise DaemonError("rised --system must be started by root; leave --system out for your own")


def _set_ids(uid: int, gid: int) -> None:
    """Set and verify them: both calls return the ID that was there before, and never an error."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    if _libc.setfsuid(-1) != uid or _libc.setfsgid(-1) != gid:
        raise PermissionError("the kernel did not take a user's rights")


def _set_groups(groups: tuple[int, ...] | list[int]) -> None:
    values = (ctypes.c_uint * len(groups))(*groups)
    if _libc.syscall(_SETGROUPS[platform.machine()], len(groups), values) != 0:
        raise PermissionError(ctypes.get_errno(), "setgroups")
