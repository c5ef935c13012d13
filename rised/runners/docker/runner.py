"""The container runner: a job is a container of the engine on this machine.

Containers survive the daemon and the engine in the same way as plain processes survive the daemon. Output goes to
the log in the same way, too (`rised.runners.output`). A shell (`rised.runners.shell`) leaves the exit code in a file.
The container's first process is watched by its pid. The engine is needed only to make a container, to remove it, and
for an exit code that the shell could not write down.

Each job has a directory `containers/<key>` with

    exit    the exit file (`rised.runners.shell`)
    start   a FIFO, on which the shell waits for the start signal; the daemon holds it open until the job has ended
    out     the FIFO for its output
    env     the environment of a build's steps: an image would keep one that its container was made with
    code    the project's files, the job's working directory
    python  where the client's package is mounted, so that `import riseml` works in every image
"""

import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from rised.crashpoints import crash_point
from rised.linux.copy_tree import copy_tree, remove_tree
from rised.linux.files import PASSABLE, disk_may_be_full, write_file
from rised.linux.processes import boot_id, stat
from rised.linux.threads import in_thread
from rised.log import log
from rised.runners.base import Container, Job
from rised.runners.docker import containers, images
from rised.runners.docker.accounts import Accounts
from rised.runners.docker.config import ASKS_FOR_GPUS, INSIDE, configure, environment
from rised.runners.docker.engine import Engine
from rised.runners.docker.handle import OUTPUT, START, UNSEEN, ContainerHandle
from rised.runners.identity import ContainerIdentity, JobIdentity
from rised.runners.output.pipes import OutputPipes
from rised.runners.shell import SHELL, WORKING_DIRECTORY, exports, reset_exit_file, write_scripts
from rised.users.impersonation import impersonating
from rised.users.owner import Owner
from riseml_proto.errors import EngineError, NoEngine, StartFailed, describe

_SCRIPT = "run."
_RETRY_SECONDS = 30.0


class ContainerRunner:
    """Runs jobs in containers."""

    isolation = "container"

    def __init__(self, state_dir: str, instance: str, engine: Engine, pipes: OutputPipes) -> None:
        """`instance` is the permanent name of the daemon's state. The engine is not needed yet."""
        self._jobs = os.path.join(state_dir, "containers")
        self.instance = instance
        self._engine = engine
        self._accounts = Accounts(engine)
        self._pipes = pipes
        self._boot = boot_id()
        self._stale: set[str] = set()
        self._stale_again = trio.Event()
        self._cleaning = trio.Lock()
        os.makedirs(self._jobs, mode=0o700, exist_ok=True)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Remove what earlier daemons left, and what could not be removed while no engine answered."""
        task_status.started()
        while True:
            for key in list(self._stale):
                await self._clean_stale(key)
            if self._stale:
                await trio.sleep(_RETRY_SECONDS)
            else:
                self._stale_again = trio.Event()
                await self._stale_again.wait()

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        """Only without GPUs: a container's devices are set when it is made."""
        return gpus == 0

    def starts_at_once(self, job: Job) -> bool:
        """Never: the engine takes its time."""
        return False

    async def start(self, job: Job) -> ContainerHandle:
        """Make and start the container; its shell waits for the start signal."""
        container = job.container
        assert container is not None
        info = await self._engine.info()
        await self._clean_stale(job.key)
        directory = self._directory(job.key)
        try:
            with disk_may_be_full(self._jobs):
                exit_file = await self._prepare(job, container, directory)
        except OSError as error:
            raise StartFailed(describe(error)) from error
        crash_point("before-container")
        image = await images.find(self._engine, container.image)
        if image is None:
            raise StartFailed(f"the image {container.image} is gone")
        commands = write_scripts(
            job.commands,
            job.shell,
            os.path.join(directory, _SCRIPT),
            job.owner,
            f"{INSIDE}/{_SCRIPT}",
        )
        config, visible = configure(
            job, container, info, image.env, directory, self.instance, commands
        )
        if container.build:
            write_file(os.path.join(directory, "env"), exports(environment(job, image.env)))
        else:
            name = self._name(job.key)
            await self._accounts.provide(name, image.id, config, directory, job.env.get("HOME"))
        fifo = os.open(os.path.join(directory, START), os.O_RDWR | os.O_NONBLOCK)
        try:
            container_id = await containers.create(self._engine, self._name(job.key), config)
            crash_point("container-made")
            pid = await containers.start(self._engine, container_id)
        except BaseException:
            os.close(fifo)
            raise
        first = stat(pid) if pid else None
        start = first.start if first else UNSEEN
        identity = ContainerIdentity(container_id, pid, start, self._boot, exit_file, visible)
        handle = ContainerHandle(identity, job, self._engine, fifo, self._drainer(job))
        if job.owner.is_other and container.output:
            try:
                _check_output(container.output, job.owner, pid)
            except StartFailed:
                handle.close()
                raise
        return handle

    async def _prepare(self, job: Job, container: Container, directory: str) -> str:
        """Make the job's directory; return the path of its exit file."""
        os.makedirs(os.path.join(directory, "python", "riseml"), mode=0o700, exist_ok=True)
        fifo = os.path.join(directory, START)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(fifo, 0o600)
        output = self._pipes.make(job.key, os.path.join(directory, OUTPUT), job.log, job.owner)
        self._pipes.keep(job.key, output)
        exit_file = os.path.join(directory, "exit")
        reset_exit_file(exit_file, job.key, job.owner)
        if job.owner.is_other:
            # The job passes through and uses its own files; it cannot rename or remove anything that lies here.
            for path in (directory, os.path.join(directory, "python")):
                os.chmod(path, PASSABLE)
            os.chown(fifo, job.owner.uid, job.owner.gid)
        if not container.has_code:
            code = os.path.join(directory, "code")
            # An attempt that never began may have left something.
            await in_thread(remove_tree, code)
            uid, gid = job.owner.uid, job.owner.gid
            await in_thread(copy_tree, job.files, code, uid, gid)
        return exit_file

    async def commit(self, job: Job, identity: JobIdentity, labels: Mapping[str, str]) -> str:
        """Make an image of a build's container, which has ended; return its ID. Each call makes another image."""
        assert isinstance(identity, ContainerIdentity)
        name = f"riseml-built:{job.id.replace('.', '-')}-{self.instance[:8]}"
        changes = [f"WORKDIR {WORKING_DIRECTORY}", "ENTRYPOINT []", f'CMD ["{SHELL}"]', "USER 0:0"]
        labels = {**labels, "riseml.instance": self.instance}
        base = await images.find(self._engine, job.container.image) if job.container else None
        if base and (gpus := base.env.get(ASKS_FOR_GPUS)) is not None:
            changes.append(f"ENV {ASKS_FOR_GPUS}={json.dumps(gpus)}")
        return await containers.commit(self._engine, identity.container, name, changes, labels)

    async def adopt(self, job: Job, identity: JobIdentity) -> ContainerHandle:
        """Find the container by its first process; one that has not begun is ended."""
        assert isinstance(identity, ContainerIdentity)
        rebooted = identity.boot != self._boot
        path = os.path.join(self._directory(job.key), OUTPUT)
        self._pipes.adopt(job.key, path, job.log, job.owner)
        handle = ContainerHandle(
            identity, job, self._engine, None, self._drainer(job), rebooted=rebooted
        )
        await handle.refuse_unless_begun()
        return handle

    async def _clean_stale(self, key: str) -> None:
        """Remove the leftovers of an attempt that never began, before it is started again."""
        async with self._cleaning:
            if key in self._stale:
                self._stale.remove(key)
                await self._clean(key)

    async def clean(self, job: Job) -> None:
        """Remove the container and the job's directory."""
        await self._pipes.drain(job.key)  # of one that could not be started
        await self._clean(job.key)

    def _drainer(self, job: Job) -> Callable[[], Awaitable[None]]:
        return partial(self._pipes.drain, job.key)

    async def _clean(self, key: str) -> None:
        directory = self._directory(key)
        if not os.path.isdir(directory):  # noqa: ASYNC240 — a microsecond
            return
        try:
            await containers.remove(self._engine, self._name(key))
        except (NoEngine, EngineError) as error:
            log.warning("cannot remove a container, trying again", job=key, error=str(error))
            self._stale.add(key)
            self._stale_again.set()
            return
        crash_point("container-removed")
        try:
            await in_thread(remove_tree, directory)
        except OSError as error:
            log.warning("cannot remove a directory", path=directory, error=str(error))

    def remove_leftovers(self, kept: Mapping[str, JobIdentity]) -> None:
        """Note the leftovers; `run` removes them."""
        keys = set(os.listdir(self._jobs))
        self._stale = keys - set(kept)
        for key in keys & set(kept):
            self._pipes.hold(os.path.join(self._directory(key), OUTPUT))

    def close(self) -> None:
        """Nothing is held: the connection ends with `Engine.run`."""

    def _name(self, key: str) -> str:
        return f"riseml-{self.instance[:8]}-{key}"

    def _directory(self, key: str) -> str:
        return os.path.join(self._jobs, key)


def _check_output(path: str, owner: Owner, pid: int) -> None:
    """Raise `StartFailed` unless /output in the container is the directory that its owner reaches by `path`.

    The engine follows `path` with root's rights. A link that the owner put on the way could lead it anywhere.
    """
    try:
        with impersonating(owner):
            wanted = os.lstat(path)
        mounted = os.stat(f"/proc/{pid}/root/output")
    except OSError as error:
        raise StartFailed(f"{path}: {error.strerror}") from error
    if not os.path.samestat(wanted, mounted):
        raise StartFailed(f"{path}: was moved, or is behind a link that leads elsewhere")
