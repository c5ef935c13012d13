"""The process runner: a job is a session of plain processes.

Its stdout and stderr are the log file itself. A few lines of `sh` around the commands wait for leave to begin, join
the job's control group, and leave the exit code in a file that was made beforehand: its four bytes are overwritten in
place, which even a full disk allows.

    new     was never given leave to begin
    run     has begun, and its end is not known
    0-255   has ended with this code

There are as many such files as jobs ever ran at once; one is used again once the end that it told is in the database.
After a loss of power that end may be gone from there, and the file tell another job's: so a second line names the job.

Leave is a line on the shell's standard input, with the job's GPUs in it. When the daemon dies before giving it, the
shell reads an end of file and goes without having begun.
"""

import contextlib
import copy
import itertools
import os
from collections.abc import Mapping
from itertools import chain
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

import msgspec
import trio

from rised.crashpoints import crash_point
from rised.linux.children import Child, Children
from rised.linux.copy_tree import copy_tree, remove_tree
from rised.linux.files import PASSABLE, disk_may_be_full, overwrite
from rised.linux.process_tree import MARK, CgroupTree, ProcessTree, SessionTree, end_tree
from rised.linux.processes import ProcessSnapshot, boot_id, ended, pidfd, stat
from rised.log import log
from rised.runners.base import Exit, Job
from rised.runners.process import setpriv
from rised.runners.process.cgroups import Cgroups
from rised.runners.shell import SCRIPT, SHELL, read_exit
from rised.users.files import give_file, open_log
from rised.users.impersonation import impersonating
from rised.users.owner import Owner
from riseml_proto.errors import StartFailed

# A control group may count a process for a moment after the kernel has said that it ended.
_CGROUP_DELAY = 0.002
# The start of a shell that ran before the machine was booted: no process has it.
OTHER_BOOT = -1
_ENV = ".env"


class Identity(NamedTuple):
    """What finds a job again: its shell's pid and start, in which boot, its control group, its exit file."""

    pid: int
    start: int
    boot: str
    cgroup: str | None
    exit_file: str


class ProcessRunner:
    """Runs jobs as processes of their owners."""

    def __init__(
        self,
        state_dir: str,
        instance: str,
        children: Children,
        cgroups: Cgroups,
        open_files: int,
        *,
        shared: bool = False,
    ) -> None:
        """`instance` names this daemon's state for ever; `open_files` is the soft limit that jobs get.

        `shared`: jobs are not only the daemon's own user's.
        """
        self._work = os.path.join(state_dir, "work")
        self._run = os.path.join(state_dir, "run")
        self._instance = instance
        self._children = children
        self._open_files = str(open_files)
        self._boot = boot_id()
        self._small = "", False
        self._exit_files: dict[str, str] = {}
        # By user: whoever ran a job may have kept its exit file open.
        self._free_exit_files: dict[int, list[str]] = {}
        self._cgroups = cgroups
        for directory in (self._work, self._run):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if shared:
                os.chmod(directory, PASSABLE)

    @property
    def isolation(self) -> str:
        """`cgroup`: every process of a job is known. `session`: see `trees.SessionTree`."""
        return "cgroup" if self._cgroups.base else "session"

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        """A shell can wait, and is told its GPUs with its leave to begin."""
        return True

    def starts_at_once(self, job: Job) -> bool:
        """Whether the project is a few small files, looked at once per tree."""
        if self._small[0] != job.files:
            self._small = job.files, _is_small(job.files)
        return self._small[1]

    async def start(self, job: Job) -> "ProcessHandle":
        """Start the shell, which waits for leave."""
        try:
            with disk_may_be_full(self._work):
                exit_file = self._take_exit_file(job)
                crash_point("before-copy")
                to, owner = self._directory(job), job.owner
                if self.starts_at_once(job):
                    copy_tree(job.files, to, owner.uid, owner.gid)
                else:
                    await trio.to_thread.run_sync(copy_tree, job.files, to, owner.uid, owner.gid)
                return self._spawn(job, self._cgroups.make(job.key, job.amounts), exit_file)
        except OSError as error:
            raise StartFailed(
                f"{os.fsdecode(error.filename or SHELL)}: {error.strerror}"
            ) from error

    def _take_exit_file(self, job: Job) -> str:
        if free := self._free_exit_files.get(job.owner.uid):
            path = free.pop()
        else:
            known = [*self._exit_files.values(), *chain(*self._free_exit_files.values())]
            taken = {os.path.basename(path) for path in known}
            number = next(n for n in itertools.count() if str(n) not in taken)
            path = os.path.join(self._run, str(number))
        self._exit_files[job.key] = path
        overwrite(path, b"new\n%s\n" % job.key.encode())
        if job.owner.is_other:
            give_file(path, job.owner)
        return path

    def _spawn(self, job: Job, cgroup: str | None, exit_file: str) -> "ProcessHandle":
        crash_point("before-spawn")
        mark = f"{self._instance}/{job.key}"
        words = ["riseml", exit_file, cgroup or "", self._directory(job), self._open_files]
        env: Mapping[str, str] = {**job.env, MARK: mark}
        if job.owner.is_other:
            words[2] = words[4] = ""  # root has put it there before, and its owner's limits hold
            env_file = exit_file + _ENV
            setpriv.write_environment(env_file, env, job.owner)
            argv = setpriv.command(job.owner, cgroup, env_file, SCRIPT, [*words, *job.commands])
            env = {MARK: mark}
        else:
            argv = [SHELL, "-c", SCRIPT, *words, *job.commands]
        leave_read, leave = os.pipe2(os.O_CLOEXEC)
        try:
            log = open_log(job.log, job.owner)
            try:
                child = self._children.spawn(argv, env, stdin=leave_read, output=log)
            finally:
                os.close(log)
        except OSError:
            os.close(leave)
            raise
        finally:
            os.close(leave_read)
        crash_point("after-spawn")
        found = stat(child.pid)
        assert found is not None  # not reaped before the next checkpoint
        identity = Identity(child.pid, found.start, self._boot, cgroup, exit_file)
        tree = self._tree(identity, job)
        return ProcessHandle(identity, job.key, tree, self._children, child, leave)

    async def adopt(self, job: Job, identity: str) -> "ProcessHandle":
        """Find the job by its shell's pid and start; where it is gone, its exit file remains."""
        found = msgspec.json.decode(identity, type=Identity)
        if found.boot != self._boot:
            found = found._replace(start=OTHER_BOOT, cgroup=None)
        tree = self._tree(found, job)
        return ProcessHandle(found, job.key, tree, self._children, None, None)

    async def clean(self, job: Job) -> None:
        """Remove the private copy, and the control group of a job that never started; its exit file is free."""
        directory = self._directory(job)
        if _is_small(directory):
            _remove(directory)
        else:
            await trio.to_thread.run_sync(_remove, directory)
        if path := self._exit_files.pop(job.key, None):
            self._free_exit_files.setdefault(job.owner.uid, []).append(path)
            if job.owner.is_other:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path + _ENV)
        self._cgroups.remove(job.key)

    def remove_leftovers(self, kept: Mapping[str, str]) -> None:
        """Remove what jobs left that are not in `kept`."""
        for key in os.listdir(self._work):
            if key not in kept:
                _remove(os.path.join(self._work, key))
        identities = {key: msgspec.json.decode(text, type=Identity) for key, text in kept.items()}
        self._exit_files = {key: identity.exit_file for key, identity in identities.items()}
        for name in os.listdir(self._run):
            path = os.path.join(self._run, name)
            if path not in self._exit_files.values():
                os.unlink(path)
        self._cgroups.remove_leftovers(set(kept))

    def close(self) -> None:
        """Let go of the control groups."""
        self._cgroups.close()

    def _tree(self, identity: Identity, job: Job) -> ProcessTree:
        if identity.cgroup:
            return CgroupTree(identity.cgroup, identity.pid, identity.start)
        mark = f"{self._instance}/{job.key}"
        return SessionTree(identity.pid, identity.start, mark, self._directory(job), job.log)

    def _directory(self, job: Job) -> str:
        return os.path.join(self._work, job.key)


def _remove(directory: str) -> None:
    """Remove a working directory. What cannot be removed, such as a mount that a job left, stays until a restart.

    Another user's is emptied with that user's rights: its owner may still be moving things about in it.
    """
    try:
        found = os.lstat(directory)
        owner = Owner(found.st_uid, found.st_gid)
        if owner.is_other and S_ISDIR(found.st_mode):
            with impersonating(owner), contextlib.suppress(PermissionError):
                remove_tree(directory)  # all but itself: it lies where only the daemon may write
            os.rmdir(directory)
        else:
            remove_tree(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("cannot remove a working directory", path=directory, error=str(error))


def _is_small(directory: str) -> bool:
    """Whether a few small files are all there is in it, which is done with sooner than a thread is asked."""
    try:
        with os.scandir(directory) as entries:
            for count, entry in enumerate(entries):
                found = entry.stat(follow_symlinks=False)
                if count >= 16 or not S_ISREG(found.st_mode) or found.st_size > 65536:
                    return False
    except OSError:
        return False
    return True


class ProcessHandle:
    """A job's shell and everything below it."""

    def __init__(
        self,
        identity: Identity,
        key: str,
        tree: ProcessTree,
        children: Children,
        child: Child | None,
        leave: int | None,
    ) -> None:
        """`key` is the job's; `child` is None for one that an earlier daemon started, `leave` then too."""
        self._identity = identity
        self._key = key.encode()
        self._tree = tree
        self._children = children
        self._child = child
        self._leave = leave

    @property
    def identity(self) -> str:
        """The `Identity` as JSON."""
        return msgspec.json.encode(self._identity).decode()

    @property
    def is_held(self) -> bool:
        """Whether the shell is alive and has no leave yet."""
        return self._leave is not None and self._child is not None and self._child.code is None

    def pids(self, snapshot: ProcessSnapshot) -> list[int]:
        """Those of its tree."""
        # A look by another thread must not make the tree forget what it has seen since.
        return copy.copy(self._tree).pids(snapshot)

    @property
    def cgroup(self) -> str | None:
        """Its own, where it has one."""
        return self._identity.cgroup

    def begin(self, visible_gpus: str) -> None:
        """Write the line that the shell waits for."""
        assert self._leave is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed meanwhile; `wait` tells
            os.write(self._leave, f"go {visible_gpus}\n".encode())
        self.close()

    async def wait(self) -> Exit:
        """Return when the shell has ended."""
        status = None
        if self._child:
            status = await self._child.wait()
        else:
            with pidfd(self._identity.pid) as fd:
                found = stat(self._identity.pid)
                if fd is not None and found and found.start == self._identity.start:
                    await ended(fd)
        return self._read_exit(status)

    def _read_exit(self, status: int | None) -> Exit:
        other_boot = self._identity.start == OTHER_BOOT
        return read_exit(self._identity.exit_file, self._key, status, other_boot=other_boot)

    async def kill(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL."""
        self.close()
        await end_tree(self._tree, grace)

    async def settle(self, grace: float) -> None:
        """End what the shell left behind, and remove its control group."""
        if isinstance(self._tree, CgroupTree):
            while not self._tree.remove():
                await end_tree(self._tree, grace)
                await trio.sleep(_CGROUP_DELAY)
        elif self._child is None or self._children.strays():
            await end_tree(self._tree, grace)

    def close(self) -> None:
        """Close the pipe; a shell that was not let go ends."""
        if self._leave is not None:
            os.close(self._leave)
            self._leave = None
