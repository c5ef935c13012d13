"""The control groups of jobs: where they lie, and what they guarantee and limit.

Each job has one of its own, made by hand. Under systemd they lie in a scope (`rised-jobs.scope`) that outlives the
daemon and is delegated to it, elsewhere below the daemon's own group; where neither may be, there are none.

What a job asked for is written where the kernel has a controller for it:

    cpu.weight    100 for each CPU that is guaranteed; a tenth of one without
    cpu.max       the limit on CPUs
    memory.low    the memory that is guaranteed
    memory.max    the limit on memory
    pids.max      so that a job that forks for ever takes no other's processes
"""

import contextlib
import os

from rised.linux.cgroups import delegated_cgroup
from rised.linux.files import write_file
from rised.linux.process_tree import CgroupTree
from rised.log import log
from rised.runners.base import Amounts
from rised.runners.process.scope import Scope

_CONTROLLERS = ("cpu", "memory", "pids")
_PERIOD = 100_000  # microseconds
_MOST_WEIGHT = 10_000
_MOST_PROCESSES = 16_384
_HOLDER = "holder"


def contents(amounts: Amounts) -> dict[str, str]:
    """File in a control group → what to write there. Pure."""
    found = {
        "cpu.weight": str(min(_MOST_WEIGHT, max(1, round(100 * (amounts.cpus or 0.1))))),
        "pids.max": str(_MOST_PROCESSES),
    }
    if amounts.cpus_limit:
        found["cpu.max"] = f"{max(1000, round(amounts.cpus_limit * _PERIOD))} {_PERIOD}"
    if amounts.mem:
        found["memory.low"] = str(amounts.mem << 20)
    if amounts.mem_limit:
        found["memory.max"] = str(amounts.mem_limit << 20)
    return found


class Cgroups:
    """The control groups of one daemon's jobs."""

    def __init__(self, instance: str, scope: Scope | None = None) -> None:
        """`instance` names this daemon's state for ever; `scope` is where systemd lets groups be made."""
        self._scope = scope
        self.controllers: tuple[str, ...] = ()
        """Those that are there for jobs."""
        self.base = scope.directory() if scope else delegated_cgroup(f"rised-{instance}")
        """The directory that jobs' groups are made in; None where there can be none."""
        if scope:
            self._enable()

    def _enable(self) -> None:
        """Let jobs' groups have controllers. A group with processes of its own cannot; its holder has one below."""
        assert self.base is not None
        holder = os.path.join(self.base, _HOLDER)
        with contextlib.suppress(OSError):
            os.makedirs(holder, exist_ok=True)
            with open(os.path.join(self.base, "cgroup.procs"), encoding="ascii") as file:
                for pid in file.read().split():
                    write_file(os.path.join(holder, "cgroup.procs"), pid.encode())
        try:
            with open(os.path.join(self.base, "cgroup.controllers"), encoding="ascii") as file:
                there = file.read().split()
            found = tuple(name for name in _CONTROLLERS if name in there)
            text = " ".join(f"+{name}" for name in found)
            write_file(os.path.join(self.base, "cgroup.subtree_control"), text.encode())
            self.controllers = found
        except OSError as error:
            log.warning("no controllers for jobs", path=self.base, error=str(error))

    def make(self, key: str, amounts: Amounts) -> str | None:
        """Make the group of a job; None where there are none. Raises `OSError`."""
        if self.base is None:
            return None
        path = self.path(key)
        try:
            os.mkdir(path)
        except FileExistsError:  # a shell that waited when its daemon died, and has not gone yet
            CgroupTree(path).kill_at_once()
        except FileNotFoundError:
            if self._scope is None:
                raise
            # An administrator has stopped the scope, and with it all jobs.
            self.base = self._scope.directory()
            self._enable()
            path = self.path(key)
            os.mkdir(path)
        for name, text in contents(amounts).items() if self.controllers else ():
            if name.partition(".")[0] in self.controllers:
                self._write(os.path.join(path, name), text)
        return path

    @staticmethod
    def _write(path: str, text: str) -> None:
        try:
            write_file(path, text.encode())
        except OSError as error:
            log.warning("cannot write what a job is to have", path=path, error=str(error))

    def path(self, key: str) -> str:
        """The directory of a job's group."""
        assert self.base is not None
        return os.path.join(self.base, key)

    def remove(self, key: str) -> None:
        """Remove the group of a job of which nothing is left."""
        if self.base is not None:
            CgroupTree(self.path(key)).remove()

    def remove_leftovers(self, kept: set[str]) -> None:
        """End and remove the groups of all other jobs."""
        if self.base is None:
            return
        for entry in list(os.scandir(self.base)):
            if entry.is_dir() and entry.name not in kept and entry.name != _HOLDER:
                group = CgroupTree(entry.path)
                group.kill_at_once()
                group.remove()

    def close(self) -> None:
        """Remove the group that held the jobs' groups, unless jobs run on in it, or it is systemd's."""
        if self.base is not None and self._scope is None:
            with contextlib.suppress(OSError):
                os.rmdir(self.base)
