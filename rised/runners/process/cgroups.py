"""The control groups of jobs, with their guarantees and limits.

Each job has a group of its own. Under systemd the groups lie in a scope (`rised-jobs.scope`) that outlives the daemon
and is delegated to it; elsewhere they lie below the daemon's own group. Where neither is allowed, there are none.

What a job asked for is written to these files, where the kernel has their controllers:

    cpu.weight    100 for each guaranteed CPU; a job without a guarantee has a tenth of that
    cpu.max       the limit on CPUs
    memory.low    the guaranteed memory
    memory.max    the limit on memory
    pids.max      keeps a job that forks for ever from using up the machine's processes
"""

import contextlib
import os
from pathlib import Path

from rised.linux.cgroups import delegated_cgroup
from rised.linux.files import write_file
from rised.linux.process_tree import CgroupTree
from rised.log import log
from rised.runners.base import JobResources
from rised.runners.process.scope import Scope

_CONTROLLERS = ("cpu", "memory", "pids")
_PERIOD = 100_000  # microseconds
_MOST_WEIGHT = 10_000
_MOST_PROCESSES = 16_384
_HOLDER = "holder"


def control_files(resources: JobResources) -> dict[str, str]:
    """File in a control group → what to write to it. Pure."""
    files = {
        "cpu.weight": str(min(_MOST_WEIGHT, max(1, round(100 * (resources.cpus or 0.1))))),
        "pids.max": str(_MOST_PROCESSES),
    }
    if resources.cpus_limit:
        files["cpu.max"] = f"{max(1000, round(resources.cpus_limit * _PERIOD))} {_PERIOD}"
    if resources.mem:
        files["memory.low"] = str(resources.mem << 20)
    if resources.mem_limit:
        files["memory.max"] = str(resources.mem_limit << 20)
    return files


class Cgroups:
    """The control groups of one daemon's jobs."""

    def __init__(self, instance: str, scope: Scope | None = None) -> None:
        """`instance` is the permanent name of the daemon's state; `scope` is where systemd lets groups be made."""
        self._scope = scope
        self._controllers: list[str] = []  # that jobs' groups have
        self.base = scope.directory() if scope else delegated_cgroup(f"rised-{instance}")
        """The directory of jobs' groups; None where there can be none."""
        if scope:
            self._enable()

    @property
    def holder(self) -> str | None:
        """The file that takes pids of other processes that outlive the daemon; None where any place will do."""
        return (
            os.path.join(self.base, _HOLDER, "cgroup.procs") if self.base and self._scope else None
        )

    def _enable(self) -> None:
        """Let jobs' groups have controllers. The kernel refuses this to a group that has processes, so these move."""
        assert self.base is not None
        holder = os.path.join(self.base, _HOLDER)
        with contextlib.suppress(OSError):
            os.makedirs(holder, exist_ok=True)
            for pid in Path(self.base, "cgroup.procs").read_bytes().split():
                write_file(os.path.join(holder, "cgroup.procs"), pid)
        try:
            available = Path(self.base, "cgroup.controllers").read_text().split()
            controllers = [name for name in _CONTROLLERS if name in available]
            text = " ".join(f"+{name}" for name in controllers)
            Path(self.base, "cgroup.subtree_control").write_text(text)
            self._controllers = controllers
        except OSError as error:
            log.warning("no controllers for jobs", path=self.base, error=str(error))

    def make(self, key: str, resources: JobResources) -> str | None:
        """Make the group of a job and return its directory; None where there are no groups. Raises `OSError`."""
        if self.base is None:
            return None
        path = self.path(key)
        try:
            os.mkdir(path)
        except FileExistsError:  # of a shell that a dead daemon held, and that has not ended yet
            CgroupTree(path).kill_at_once()
        except FileNotFoundError:
            if self._scope is None:
                raise
            # An administrator stopped the scope, and all jobs with it.
            self.base = self._scope.directory()
            self._enable()
            path = self.path(key)
            os.mkdir(path)
        for name, text in control_files(resources).items():
            if name.partition(".")[0] not in self._controllers:
                continue
            file = os.path.join(path, name)
            try:
                write_file(file, text.encode())
            except OSError as error:
                log.warning("cannot set a guarantee or limit of a job", path=file, error=str(error))
        return path

    def path(self, key: str) -> str:
        """The directory of a job's group."""
        assert self.base is not None
        return os.path.join(self.base, key)

    def remove(self, key: str) -> None:
        """Remove the group of a job that has no processes left."""
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
        """Remove the group around the jobs' groups, unless jobs run on in it, or systemd made it."""
        if self.base is not None and self._scope is None:
            with contextlib.suppress(OSError):
                os.rmdir(self.base)
