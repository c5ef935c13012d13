"""The container runner: a job is a container of the engine on this machine.

What makes plain processes survive the daemon makes containers survive it and the engine: the log is a file of the
host's that the job writes itself, a few lines of `sh` leave the exit code in another, and the container's first process
is watched by its pid. The engine is needed to make a container, to remove it, and for an exit code that the shell could
not write down.

Each job has a directory `containers/<key>` with

    exit    as the process runner has it
    leave   a FIFO, on which the shell waits for leave to begin; the daemon holds it open until the job has ended
    log     where the log is mounted
    env     what a build's steps find in their environment; an image keeps what its container was made with
    code    the project's files, the job's working directory
    python  where the client's package is mounted, so that `import riseml` works in every image
"""

import contextlib
import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from rised.crashpoints import crash_point
from rised.job import WORKING_DIRECTORY
from rised.layout import client_package, overwrite
from rised.log import log
from rised.revisions.copies import copy_tree, remove_tree
from rised.revisions.places import disk_may_be_full
from rised.runners.base import Container, Exit, Job, StartFailed
from rised.runners.engine import Engine, EngineError, EngineInfo, NoEngine
from rised.runners.process import SCRIPT, SHELL, read_exit
from rised.runners.processes import Look, boot_id, ended, pidfd, stat
from rised.runners.trees import end
from rised.runners.vessel import Vessel

_INSIDE = "/.riseml"
_OPEN = f"exec >>{_INSIDE}/log 2>&1 <{_INSIDE}/leave || exit 0\n"
_TAKE_ENV = f". {_INSIDE}/env\n"
# The steps that build an image find the project's files there, and make their own copy.
_COPY = f"cp -a {_INSIDE}/code/. ."
UNSEEN = -1
"""The start of a first process that an engine runs out of this machine's sight."""
_ASKS_FOR_GPUS = "NVIDIA_VISIBLE_DEVICES"
"""Images made for GPUs set it to `all`; the nvidia runtime gives them what it says."""
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_LEAST_MEMORY = 6  # MiB; the engine takes no less
_RETRY_SECONDS = 30.0
_PATIENCE = 60.0
"""Seconds that an exit code which only the engine knows is waited for: it may be starting again."""
_ASK_AGAIN = 1.0
_SLACK = 2.0
"""Seconds more than the grace after which processes that do not go are thought to be paused."""


class Identity(msgspec.Struct, frozen=True):
    """What finds a container again."""

    container: str
    pid: int
    start: int
    boot: str
    exit_file: str
    visible: str | None = None
    """What CUDA_VISIBLE_DEVICES has to be in it, where it sees no other GPUs than its own."""


class ContainerRunner:
    """Runs jobs in containers."""

    def __init__(self, state_dir: str, instance: str, engine: Engine) -> None:
        """`instance` names this daemon's state for ever. Nothing is asked of the engine before it is needed."""
        self._jobs = os.path.join(state_dir, "containers")
        self.instance = instance
        self._engine = engine
        self._boot = boot_id()
        self._stale: set[str] = set()
        self._more = trio.Event()
        self._one = trio.Lock()
        os.makedirs(self._jobs, mode=0o700, exist_ok=True)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Remove what earlier daemons left, and what could not be removed while the engine was away."""
        task_status.started()
        while True:
            for key in list(self._stale):
                await self._clean_stale(key)
            if self._stale:
                await trio.sleep(_RETRY_SECONDS)
            else:
                self._more = trio.Event()
                await self._more.wait()

    @property
    def isolation(self) -> str:
        """Always that."""
        return "container"

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        """Its devices are set when it is made."""
        return gpus == 0

    def starts_at_once(self, job: Job) -> bool:
        """Never."""
        return False

    async def start(self, job: Job) -> "ContainerHandle":
        """Make and start the container; its shell waits for leave."""
        container = job.container
        assert container is not None
        info = await self._engine.info()
        await self._clean_stale(job.key)
        directory = self._directory(job.key)
        try:
            with disk_may_be_full(self._jobs):
                exit_file = await self._prepare(job, container, directory)
        except OSError as error:
            raise StartFailed(f"{error.filename}: {error.strerror}") from error
        crash_point("before-container")
        found = await self._engine.look(container.image)
        if found is None:
            raise StartFailed(f"the image {container.image} is gone")
        config, visible = self._config(job, container, info, found.env)
        if container.build:
            overwrite(os.path.join(directory, "env"), _exports(_environment(job, found.env)))
        leave = os.open(os.path.join(directory, "leave"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            made = await self._engine.create(self._name(job.key), config)
            crash_point("container-made")
            pid = await self._engine.start(made)
        except BaseException:
            os.close(leave)
            raise
        seen = stat(pid) if pid else None
        identity = Identity(
            made, pid, seen.start if seen else UNSEEN, self._boot, exit_file, visible
        )
        return ContainerHandle(identity, job, self._engine, leave)

    async def _prepare(self, job: Job, container: Container, directory: str) -> str:
        """Make the job's directory; return the path of its exit file."""
        os.makedirs(os.path.join(directory, "python", "riseml"), mode=0o700, exist_ok=True)
        leave, mounted = (os.path.join(directory, name) for name in ("leave", "log"))
        with contextlib.suppress(FileExistsError):
            os.mkfifo(leave, 0o600)
        for path in (mounted, job.log):
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666))
        if container.output:
            os.makedirs(container.output, mode=0o700, exist_ok=True)
        exit_file = os.path.join(directory, "exit")
        overwrite(exit_file, b"new\n%s\n" % job.key.encode())
        if not container.has_code:
            code = os.path.join(directory, "code")
            await trio.to_thread.run_sync(_copy_anew, job.files, code)
        return exit_file

    def _config(
        self, job: Job, container: Container, info: EngineInfo, image_env: Mapping[str, str]
    ) -> tuple[dict[str, Any], str | None]:
        """The container as the engine's API has it, and what CUDA_VISIBLE_DEVICES has to be in it."""
        commands = list(job.commands)
        uid, gid = os.getuid(), os.getgid()
        user = "0:0" if container.build or (info.rootless and not info.podman) else f"{uid}:{gid}"
        if container.build:
            commands = [_COPY, *commands, f"chown -R {uid}:{gid} ."]
        env = {} if container.build else _environment(job, image_env)
        requests, visible = _devices(container, info)
        if not container.gpus and _ASKS_FOR_GPUS in image_env:
            env[_ASKS_FOR_GPUS] = "void"
        host: dict[str, Any] = {
            "Mounts": self._mounts(job, container),
            "Init": True,
            "LogConfig": {"Type": "none"},
            "DeviceRequests": requests,
            "GroupAdd": [str(group) for group in os.getgroups() if group != gid],
            **_amounts(container),
        }
        if not container.build:
            host["SecurityOpt"] = ["no-new-privileges"]
        if info.remaps:
            host["UsernsMode"] = "host"
        elif info.podman and info.rootless:
            host["UsernsMode"] = "keep-id"
        return {
            "Image": container.image,
            "User": user,
            "WorkingDir": WORKING_DIRECTORY,
            "Entrypoint": [SHELL],
            "Cmd": [
                *("-c", _OPEN + (_TAKE_ENV if container.build else "") + SCRIPT, "riseml"),
                *(f"{_INSIDE}/exit", "", WORKING_DIRECTORY, "", *commands),
            ],
            "Env": [f"{name}={value}" for name, value in env.items()],
            "Labels": {"riseml.instance": self.instance, "riseml.job": job.id},
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": host,
        }, visible

    def _mounts(self, job: Job, container: Container) -> list[dict[str, Any]]:
        directory = self._directory(job.key)
        mounts = [
            _mount(directory, _INSIDE),
            _mount(job.log, f"{_INSIDE}/log"),
            _mount(client_package(), f"{_INSIDE}/python/riseml", read_only=True),
        ]
        if container.build:
            return mounts
        mounts += [
            _mount(container.data, "/data", read_only=True),
            _mount(container.output, "/output"),
        ]
        if not container.has_code:
            mounts.append(_mount(f"{directory}/code", WORKING_DIRECTORY))
        elif container.config_file:
            path = os.path.join(job.files, container.config_file)
            if os.path.isfile(path):
                to = f"{WORKING_DIRECTORY}/{container.config_file}"
                mounts.append(_mount(path, to, read_only=True))
        return mounts

    async def commit(self, job: Job, identity: str, labels: Mapping[str, str]) -> str:
        """Make an image of a build's container, which has ended; return its ID. Again gives another image."""
        found = msgspec.json.decode(identity, type=Identity)
        name = f"riseml-built:{job.id.replace('.', '-')}-{self.instance[:8]}"
        changes = [f"WORKDIR {WORKING_DIRECTORY}", "ENTRYPOINT []", f'CMD ["{SHELL}"]', "USER 0:0"]
        labels = {**labels, "riseml.instance": self.instance}
        base = await self._engine.look(job.container.image) if job.container else None
        if base and (asked := base.env.get(_ASKS_FOR_GPUS)) is not None:
            changes.append(f"ENV {_ASKS_FOR_GPUS}={json.dumps(asked)}")
        return await self._engine.commit(found.container, name, changes, labels)

    async def adopt(self, job: Job, identity: str) -> "ContainerHandle":
        """Find the container by its first process; one that never got leave will not get it any more."""
        found = msgspec.json.decode(identity, type=Identity)
        rebooted = found.boot != self._boot
        handle = ContainerHandle(found, job, self._engine, None, rebooted=rebooted)
        if not handle.has_begun:
            await handle.refuse()
        return handle

    async def clean(self, job: Job) -> None:
        """Remove the container and the job's directory."""
        await self._clean(job.key)

    async def _clean_stale(self, key: str) -> None:
        """Remove what is left of an attempt that never began, before the same one is started again."""
        async with self._one:
            if key in self._stale:
                self._stale.remove(key)
                await self._clean(key)

    async def _clean(self, key: str) -> None:
        directory = self._directory(key)
        if not os.path.isdir(directory):  # noqa: ASYNC240 — a microsecond
            return
        try:
            await self._engine.remove(self._name(key))
        except (NoEngine, EngineError) as error:
            log.warning("cannot remove a container, trying again", job=key, error=str(error))
            self._stale.add(key)
            self._more.set()
            return
        crash_point("container-removed")
        try:
            await trio.to_thread.run_sync(remove_tree, directory)
        except OSError as error:
            log.warning("cannot remove a directory", path=directory, error=str(error))

    def sweep(self, kept: Mapping[str, str]) -> None:
        """Note what `run` has to remove."""
        self._stale = {key for key in os.listdir(self._jobs) if key not in kept}

    def close(self) -> None:
        """Nothing is held."""

    def _name(self, key: str) -> str:
        return f"riseml-{self.instance[:8]}-{key}"

    def _directory(self, key: str) -> str:
        return os.path.join(self._jobs, key)


def _mount(path: str, to: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": path, "Target": to, "ReadOnly": read_only}


def _environment(job: Job, image_env: Mapping[str, str]) -> dict[str, str]:
    """The job's, in which `import riseml` works."""
    path = job.env.get("PYTHONPATH", image_env.get("PYTHONPATH"))
    inside = f"{_INSIDE}/python"
    return {**job.env, "PYTHONPATH": f"{path}:{inside}" if path else inside}


def _exports(env: Mapping[str, str]) -> bytes:
    """For a shell to read; names that it cannot have are left out."""
    lines = [
        f"export {name}={shlex.quote(value)}\n"
        for name, value in env.items()
        if _NAME.fullmatch(name)
    ]
    return os.fsencode("".join(lines))


def _copy_anew(files: str, to: str) -> None:
    """What an attempt that never began left may be there."""
    with contextlib.suppress(FileNotFoundError):
        remove_tree(to)
    copy_tree(files, to)


def _amounts(container: Container) -> dict[str, int]:
    """Guarantees and limits as the engine takes them."""
    amounts = {
        "CpuShares": max(2, round(container.cpus * 1024)) if container.cpus else 0,
        "MemoryReservation": max(_LEAST_MEMORY, container.mem) << 20 if container.mem else 0,
        # More than there are is no limit, and an error to the engine.
        "NanoCpus": round(min(container.cpus_limit, os.cpu_count() or 1) * 1e9),
        "Memory": max(_LEAST_MEMORY, container.mem_limit) << 20 if container.mem_limit else 0,
        "ShmSize": container.shm << 20,
    }
    if container.mem_limit:
        amounts["MemorySwap"] = amounts["Memory"]
    return {name: amount for name, amount in amounts.items() if amount}


def _devices(container: Container, info: EngineInfo) -> tuple[list[dict[str, Any]], str | None]:
    """How its GPUs are asked for, and what CUDA_VISIBLE_DEVICES then is; nothing for GPUs that are only declared.

    Raises `StartFailed` where the engine has no way to give it some.
    """
    uuids = [uuid for _, uuid in container.gpus if uuid]
    if not uuids:
        return [], None
    visible = ",".join(map(str, range(len(uuids))))
    if info.nvidia:
        request = {"Driver": "nvidia", "DeviceIDs": uuids, "Capabilities": [["gpu"]]}
        return [request], visible
    if info.cdi:
        return [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={u}" for u in uuids]}], visible
    raise StartFailed(
        "the container engine has neither the nvidia runtime nor a CDI specification of the GPUs;"
        " install the NVIDIA container toolkit"
    )


class ContainerHandle:
    """A container and all processes in it."""

    def __init__(
        self,
        identity: Identity,
        job: Job,
        engine: Engine,
        leave: int | None,
        *,
        rebooted: bool = False,
    ) -> None:
        """`leave` is the FIFO, open; None for a container that an earlier daemon started."""
        self._rebooted = rebooted
        self._visible_here = identity.start != UNSEEN and not rebooted
        self._identity = identity
        self._key = job.key.encode()
        self._engine = engine
        self._leave = leave
        self._let_go = False
        start = UNSEEN if rebooted else identity.start
        self.vessel = Vessel(identity.container, identity.pid, start)

    @property
    def identity(self) -> str:
        """The `Identity` as JSON."""
        return msgspec.json.encode(self._identity).decode()

    @property
    def waits(self) -> bool:
        """Whether it is there and has no leave yet."""
        there = self.vessel.there or not self._visible_here
        return self._leave is not None and not self._let_go and there

    @property
    def has_begun(self) -> bool:
        """Whether its first command was started."""
        return self._read(None).begun

    def pids(self, look: Look) -> list[int]:
        """The container's."""
        return self.vessel.pids(look)

    @property
    def group(self) -> str | None:
        """The container's."""
        return self.vessel.group

    def go(self, visible_gpus: str) -> None:
        """Write the line that the shell waits for."""
        assert self._leave is not None
        visible = self._identity.visible if self._identity.visible is not None else visible_gpus
        self._let_go = True
        os.write(self._leave, f"go {visible}\n".encode())

    async def wait(self) -> Exit:
        """Return when its first process has ended, and with it all that it had."""
        await self._ended()
        how = self._read(None)
        ended_by_itself = how.begun or self._let_go
        if how.code is None and ended_by_itself and not self._rebooted:
            return self._read(await self._ask())
        return how

    async def _ended(self) -> None:
        if not self._visible_here:
            if not self._rebooted:
                await self._ask(math.inf)
            return
        with pidfd(self._identity.pid) as fd:
            if fd is not None and self.vessel.there:
                await ended(fd)

    async def _ask(self, patience: float = _PATIENCE) -> int | None:
        """The exit code that the engine sees, if it answers within `patience` seconds."""
        with trio.move_on_after(patience):
            while True:
                try:
                    return await self._engine.wait(self._identity.container)
                except NoEngine:
                    await trio.sleep(_ASK_AGAIN)
                except EngineError:
                    return None
        return None

    def _read(self, status: int | None) -> Exit:
        path = self._identity.exit_file
        return read_exit(path, self._key, status, other_boot=self._rebooted)

    async def refuse(self) -> None:
        """End one that never got leave; if the engine is away it ends where it would read its leave."""
        self._take_leave_away()
        if not self._visible_here and not self._rebooted:
            with contextlib.suppress(NoEngine, EngineError):
                await self._engine.kill(self._identity.container)

    def _take_leave_away(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(os.path.dirname(self._identity.exit_file), "leave"))
        self.vessel.strike()

    async def kill(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; by the engine where the processes are not ours, or paused."""
        if not self._let_go:
            self.close()
        if self._visible_here and self.vessel.is_ours:
            with trio.move_on_after(grace + _SLACK):
                return await end(self.vessel, grace)
            grace = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kill_by_engine, grace)
            await self._ended()
            nursery.cancel_scope.cancel()
        return None

    async def _kill_by_engine(self, grace: float) -> None:
        if grace:
            with trio.move_on_after(grace), contextlib.suppress(NoEngine, EngineError):
                await self._engine.terminate(self._identity.container)
                await trio.sleep(grace)
        while True:
            with contextlib.suppress(NoEngine, EngineError):
                await self._engine.kill(self._identity.container)
            await trio.sleep(_ASK_AGAIN)

    async def settle(self, grace: float) -> None:
        """Its first process takes all others with it."""
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close the FIFO; a shell that was not let go ends, also one that has not come as far as the FIFO."""
        if self._leave is None:
            return
        if not self._let_go:
            self._take_leave_away()
        os.close(self._leave)
        self._leave = None
