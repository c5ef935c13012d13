"""The process runner: a job is a session of plain processes.

Its stdout and stderr are the log file itself. A shell (`rised.runners.shell`) waits for the start signal, joins the
job's control group, runs the commands and leaves their exit code in a file. The start signal is a line on the shell's
standard input, with the job's GPUs in it. When the daemon dies before it sends that, the shell reads an end of file and
ends without having begun.
"""

import contextlib
import os
import resource
from collections.abc import Mapping
from functools import lru_cache, partial

import msgspec

from rised.crashpoints import crash_point
from rised.linux.children import Child, Children
from rised.linux.copy_tree import copy_tree
from rised.linux.files import PASSABLE, disk_may_be_full
from rised.linux.process_tree import MARK, CgroupTree, ProcessTree, SessionTree
from rised.linux.processes import boot_id
from rised.linux.threads import in_thread
from rised.runners.base import Job
from rised.runners.identity import JobIdentity, ProcessIdentity
from rised.runners.output.pipes import OutputPipes
from rised.runners.process import setpriv, working_copy
from rised.runners.process.cgroups import Cgroups
from rised.runners.process.exit_files import ExitFiles
from rised.runners.process.handle import OTHER_BOOT, ProcessHandle
from rised.runners.shell import SCRIPT, SHELL, write_scripts
from rised.users.owner import LIMITS, Owner, attainable_limits
from riseml_proto.errors import StartFailed, describe

_STACK = "stack"
_ENV, _SCRIPT, _OUTPUT = ".env", ".run.", ".out"


class ProcessRunner:
    """Runs jobs as processes of their owners."""

    def __init__(
        self,
        state_dir: str,
        instance: str,
        children: Children,
        cgroups: Cgroups,
        pipes: OutputPipes,
        open_files: int,
        *,
        shared: bool = False,
    ) -> None:
        """`open_files` is the soft limit that jobs get. `shared`: other users than the daemon's have jobs, too."""
        self._work = os.path.join(state_dir, "work")
        exit_files = os.path.join(state_dir, "run")
        self._instance = instance
        self._children = children
        self._cgroups = cgroups
        self._pipes = pipes
        self._open_files = str(open_files)
        self._boot = boot_id()
        self._is_small = lru_cache(maxsize=1)(working_copy.is_small)
        self._exit_files = ExitFiles(exit_files)
        for directory in (self._work, exit_files):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if shared:
                os.chmod(directory, PASSABLE)

    @property
    def isolation(self) -> str:
        """`cgroup`: every process of a job is known. `session`: see `process_tree.SessionTree`."""
        return "cgroup" if self._cgroups.base else "session"

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        """Always: the start signal tells the shell its GPUs."""
        return True

    def starts_at_once(self, job: Job) -> bool:
        """Whether the project is a few small files, looked at once per tree."""
        return self._is_small(job.files)

    async def start(self, job: Job) -> ProcessHandle:
        """Start the shell, which waits for the start signal."""
        try:
            with disk_may_be_full(self._work):
                exit_file = self._exit_files.take(job)
                crash_point("before-copy")
                to, owner = self._directory(job), job.owner
                if self.starts_at_once(job):
                    copy_tree(job.files, to, owner.uid, owner.gid)
                else:
                    await in_thread(copy_tree, job.files, to, owner.uid, owner.gid)
                return self._spawn(job, self._cgroups.make(job.key, job.resources), exit_file)
        except OSError as error:
            raise StartFailed(describe(error, SHELL)) from error

    def _spawn(self, job: Job, cgroup: str | None, exit_file: str) -> ProcessHandle:
        crash_point("before-spawn")
        commands = write_scripts(job.commands, job.shell, exit_file + _SCRIPT, job.owner)
        words = ["sh", exit_file, cgroup or "", self._directory(job), self._open_files]
        env: Mapping[str, str] = {**job.env, MARK: self._mark(job)}
        if job.owner.is_other:
            words[2] = words[4] = ""  # root puts it into its group; its owner's own limits hold
            env_file = exit_file + _ENV
            setpriv.write_environment(env_file, env, job.owner)
            argv = setpriv.command(job.owner, cgroup, env_file, SCRIPT, [*words, *commands])
            env = {MARK: self._mark(job)}
        else:
            if job.owner.limits:
                words[4] = ""
            text = f"umask {job.owner.umask:03o}\n{SCRIPT}"
            argv = [SHELL, "-c", text, *words, *commands]
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            output = self._pipes.make(job.key, exit_file + _OUTPUT, job.log, job.owner)
            try:
                child = self._children.spawn(argv, env, stdin=read_end, output=output)
            finally:
                os.close(output)
        except OSError:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        if not job.owner.is_other:
            _limit(child, job.owner)
        crash_point("after-spawn")

        def identify() -> ProcessIdentity:
            return ProcessIdentity(child.pid, child.start, self._boot, cgroup, exit_file)

        tree, drain = partial(self._tree, job), partial(self._pipes.drain, job.key)
        return ProcessHandle(job.key, identify, tree, self._children, drain, child, write_end)

    async def adopt(self, job: Job, identity: JobIdentity) -> ProcessHandle:
        """Find the job by the pid and start of its shell; if that is gone, by its exit file."""
        assert isinstance(identity, ProcessIdentity)
        if identity.boot != self._boot:
            identity = msgspec.structs.replace(identity, start=OTHER_BOOT, cgroup=None)
        self._pipes.adopt(job.key, identity.exit_file + _OUTPUT, job.log, job.owner)
        tree, drain = partial(self._tree, job), partial(self._pipes.drain, job.key)
        return ProcessHandle(job.key, lambda: identity, tree, self._children, drain)

    async def clean(self, job: Job) -> None:
        """Remove the working copy, and the control group of a job that never began; its exit file is free again."""
        await self._pipes.drain(job.key)  # of one that could not be started
        directory = self._directory(job)
        if working_copy.is_small(directory):
            working_copy.remove(directory)
        else:
            await in_thread(working_copy.remove, directory)
        exit_file = self._exit_files.release(job)
        if exit_file and job.owner.is_other:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(exit_file + _ENV)
        if exit_file:
            for number, command in enumerate(job.commands):
                if command.startswith("#!"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(f"{exit_file}{_SCRIPT}{number}")
        self._cgroups.remove(job.key)

    def remove_leftovers(self, kept: Mapping[str, JobIdentity]) -> None:
        """As `Runner.remove_leftovers`."""
        for key in os.listdir(self._work):
            if key not in kept:
                working_copy.remove(os.path.join(self._work, key))
        ours = {k: known for k, known in kept.items() if isinstance(known, ProcessIdentity)}
        for known in ours.values():
            self._pipes.hold(known.exit_file + _OUTPUT)
        self._exit_files.retain({key: known.exit_file for key, known in ours.items()})
        self._cgroups.remove_leftovers(set(kept))

    def close(self) -> None:
        """Close the control groups."""
        self._cgroups.close()

    def _tree(self, job: Job, identity: ProcessIdentity) -> ProcessTree:
        if identity.cgroup:
            return CgroupTree(identity.cgroup, identity.pid, identity.start)
        mark, directory = self._mark(job), self._directory(job)
        # An older daemon's jobs write to the log itself.
        outputs = identity.exit_file + _OUTPUT, job.log
        return SessionTree(identity.pid, identity.start, mark, directory, outputs)

    def _mark(self, job: Job) -> str:
        return f"{self._instance}/{job.key}"

    def _directory(self, job: Job) -> str:
        return os.path.join(self._work, job.key)


def _limit(child: Child, owner: Owner) -> None:
    """Give a held shell its owner's limits: system calls instead of one more program."""
    pid = child.pid
    attainable = {name: limits for name, *limits in attainable_limits(owner)}
    with contextlib.suppress(ProcessLookupError):  # it has ended; whoever waits for it sees that
        for name, soft, hard in owner.limits:
            if (soft, hard) == resource.getrlimit(LIMITS[name]):
                continue
            if name == _STACK:
                # At the end of an exec, the kernel puts back the limit of its beginning. This waits for that end.
                _ = child.start
            try:
                resource.prlimit(pid, LIMITS[name], (soft, hard))
            except (ValueError, PermissionError):  # only root may raise what the daemon has
                if name in attainable:
                    low, high = attainable[name]
                    resource.prlimit(pid, LIMITS[name], (low, high))
