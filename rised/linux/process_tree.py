"""All processes of one job, however they fork: found, and known to be gone.

There are two ways to find them. A `CgroupTree` asks the kernel and misses none: each job has a control group of its
own. Where the daemon may not make one (a workstation without systemd's delegation), a `SessionTree` looks for signs:

    session        it is in the job's session
    environment    it was started with the job's mark
    output         it writes to the job's output
    ancestor       its parent is one of these
    directory      its parent is the daemon, for its own has ended, and it is in the job's working directory

A process that loses all of these before anyone looks escapes. So does a chain of processes, each of which lives for
less time than a look takes.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Protocol

from rised.linux.processes import ProcessSnapshot, pidfd, stat

MARK = "RISEML_JOB"
# Looks at a session that seems to be empty, if each has gaps.
_LOOKS = 3
# A flag of pidfd_send_signal(2), from Linux 6.9: the signal goes to the process group that the process leads.
_PROCESS_GROUP = 4


class LocalProcesses(Protocol):
    """The processes of a job on the daemon's machine, for any thread to look at."""

    @property
    def cgroup(self) -> str | None:
        """Directory of a control group that counts their processor time and no other's; None where there is none."""

    def pids(self, snapshot: ProcessSnapshot) -> list[int]:
        """Those alive at the moment of the snapshot, as the daemon's machine numbers them."""


class ProcessTree(LocalProcesses, Protocol):
    """The processes of one job on the daemon's machine, to be signalled."""

    @property
    def roots(self) -> tuple[int, ...]:
        """The pids of what rised itself put above the job's commands, the uppermost first."""

    def pids(self, snapshot: ProcessSnapshot | None = None) -> list[int]:
        """Those alive now, or at the moment of the snapshot."""

    def kill_at_once(self) -> None:
        """Send SIGKILL to those that the kernel can reach in one step, so that none forks meanwhile."""


class CgroupTree:
    """The processes in a control group and in those below it, and the leader, which joins it just after its start."""

    def __init__(self, cgroup: str, leader: int = 0, start: int = -1) -> None:
        """`cgroup` is the group's directory; `leader` started at `start` (`Stat.start`)."""
        self.cgroup = cgroup
        self._leader = leader
        self._start = start

    @property
    def roots(self) -> tuple[int, ...]:
        """The shell that runs the commands."""
        return (self._leader,)

    def pids(self, snapshot: ProcessSnapshot | None = None) -> list[int]:
        """Those alive now: the kernel lists them faster than a snapshot is taken."""
        leader = stat(self._leader) if self._leader else None
        pids = [self._leader] if leader and leader.start == self._start else []
        for directory, _, _ in os.walk(self.cgroup):
            with contextlib.suppress(OSError):  # removed meanwhile
                pids += map(int, Path(directory, "cgroup.procs").read_text().split())
        # Parents first, as the kernel lists them: a script traps SIGTERM before it sees that its child has ended.
        return [pid for pid in dict.fromkeys(pids) if (process := stat(pid)) and not process.gone]

    def kill_at_once(self) -> None:
        """Kill the whole group, from Linux 5.14 on; the leader may still be outside."""
        with contextlib.suppress(OSError):
            Path(self.cgroup, "cgroup.kill").write_text("1")

    def remove(self) -> bool:
        """Remove the group; False if a process is still in it. True as well if there is none."""
        try:
            os.rmdir(self.cgroup)
        except FileNotFoundError:
            return True
        except OSError:  # a process is in it, or groups are below it
            return self._remove_below()
        return True

    def _remove_below(self) -> bool:
        try:
            for directory, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(directory)
        except OSError:
            return False
        return True


class SessionTree:
    """The processes of a session, those that other signs show to be the job's, and all their descendants.

    Once a session's leader is gone and the session is empty, another process may get its number. So the number is a
    sign only while the leader lives, and after that for processes whose parent is now the daemon, their subreaper.
    """

    cgroup = None

    def __init__(
        self, leader: int, start: int, mark: str, directory: str, outputs: tuple[str, ...]
    ) -> None:
        """`leader` started at `start` (`Stat.start`); `mark` is the value of `MARK` in the job's environment.

        `outputs` are the files of which one is the job's output.
        """
        self._leader = leader
        self._start = start
        self._mark = f"{MARK}={mark}".encode()
        self._directory = directory
        self._outputs = outputs
        self._known: set[tuple[int, int]] = set()

    @property
    def roots(self) -> tuple[int, ...]:
        """The shell that runs the commands."""
        return (self._leader,)

    def pids(self, snapshot: ProcessSnapshot | None = None) -> list[int]:
        """Those alive now, or at the moment of the snapshot, in no order."""
        if snapshot:
            return self._alive(snapshot)
        for _ in range(_LOOKS):
            snapshot = ProcessSnapshot()
            pids = self._alive(snapshot)
            if pids or not snapshot.has_gaps:
                return pids
        return []

    def _alive(self, snapshot: ProcessSnapshot) -> list[int]:
        own = os.getpid()
        stats = {pid: process for pid, process in snapshot.stats.items() if pid != own}
        leader = stats.get(self._leader)
        leads = leader is not None and leader.start == self._start
        members = {
            pid
            for pid, process in stats.items()
            if (
                process.session == self._leader
                and (leads or (not leader and process.parent == own))
            )
            or (pid, process.start) in self._known
            or self._mark in snapshot.environ(pid)
            or self._writes_there(snapshot, pid)
            or (process.parent == own and _is_in(snapshot.link(pid, "cwd"), self._directory))
        }
        children: dict[int, list[int]] = {}
        for pid, process in stats.items():
            children.setdefault(process.parent, []).append(pid)
        unexplored = list(members)
        while unexplored:
            new = set(children.get(unexplored.pop(), ())) - members
            members |= new
            unexplored += new
        self._known = {(pid, stats[pid].start) for pid in members}
        return [pid for pid in members if not stats[pid].gone]

    def _writes_there(self, snapshot: ProcessSnapshot, pid: int) -> bool:
        targets = (snapshot.link(pid, f"fd/{fd}") for fd in (1, 2))
        return any(_is_in(target, path) for target in targets for path in self._outputs)

    def kill_at_once(self) -> None:
        """Kill the leader's process group, which holds all that did not leave it."""
        with pidfd(self._leader, self._start) as fd, contextlib.suppress(OSError):
            if fd is not None:
                signal.pidfd_send_signal(fd, signal.SIGKILL, None, _PROCESS_GROUP)


def _is_in(target: str, path: str) -> bool:
    """Whether a link of /proc leads to `path` or into it, even if `path` was removed meanwhile."""
    return target == path or target.startswith((f"{path}/", f"{path} (deleted)"))
