"""The directories of control groups, of either version of cgroups."""

import os
from collections.abc import Iterator
from pathlib import Path


def delegated_cgroup(name: str) -> str | None:
    """Make the group `name` below the daemon's own, for jobs' groups; None without cgroup2 or the right to do so."""
    own = own_cgroup()
    if own is None:
        return None
    for mount in cgroup2_mounts():
        base = os.path.join(mount + own.rstrip("/"), name)
        probe = os.path.join(base, "probe")
        try:
            os.makedirs(probe, exist_ok=True)
            # Moving a process needs the right to write where it comes from, too.
            writable = os.access(os.path.join(mount + own, "cgroup.procs"), os.W_OK)
            os.rmdir(probe)
        except OSError:
            continue
        if writable:
            return base
    return None


def own_cgroup() -> str | None:
    """The control group (cgroup2) that this process is in, as a path from the hierarchy's root."""
    lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), None)


def cgroup2_mounts() -> list[str]:
    """Where cgroup2 is mounted."""
    return [mount for mount, kind, _ in _parse(read_mounts()) if kind == "cgroup2"]


def counting_cgroup(memberships: str, mounts: str, name: str) -> str | None:
    """The group in `memberships`, a /proc/PID/cgroup, that has `name` in its path and counts CPU time, if any. Pure."""
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if name not in path:
            continue
        for mount, kind, options in _parse(mounts):
            counts_time = all("cpuacct" in names.split(",") for names in (controllers, options))
            if (kind == "cgroup" and counts_time) or (kind == "cgroup2" and not controllers):
                return mount + path
    return None


def read_mounts() -> str:
    """The text of /proc/self/mounts."""
    return Path("/proc/self/mounts").read_text("utf-8")


def _parse(mounts: str) -> Iterator[tuple[str, str, str]]:
    """Directory, file system and options of each mount."""
    for line in mounts.splitlines():
        _, directory, kind, options, *_ = line.split()
        yield directory.encode().decode("unicode_escape"), kind, options
