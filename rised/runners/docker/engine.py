"""The connection to the container engine (Docker, or Podman's compatible socket).

aiodocker is asyncio: it lives here, under trio-asyncio, and nowhere else. Neither is imported, nor a loop started,
before the first call. What is called: `images` and `containers` beside this file.
"""

import importlib
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from glob import glob
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from riseml_proto.errors import EngineError, NoEngine

if TYPE_CHECKING:
    from aiodocker import Docker as Docker
    from trio_asyncio import BaseTrioEventLoop

T = TypeVar("T")

NOT_FOUND, CONFLICT = 404, 409
_UNREACHABLE = 900  # what aiodocker calls it


class EngineInfo(NamedTuple):
    """Facts about the engine that decide how containers are made."""

    nvidia: bool
    """Whether it has the nvidia runtime."""
    cdi: bool
    """Whether it knows NVIDIA's GPUs as CDI devices."""
    rootless: bool
    podman: bool
    remaps: bool
    """Whether a container's user ids are others on the machine than those that the container sees."""
    registry: str
    """Address of the registry of images whose names have no host."""


class Engine:
    """The connection to one engine, which is looked for at the first call. `run` must run."""

    def __init__(self, environ: Mapping[str, str] = os.environ, patience: float = 30) -> None:
        """`environ` may name it (`DOCKER_HOST`); `patience` is how many seconds a simple request may take."""
        self._environ = environ
        self._patience = patience
        self._needed = trio.Event()
        self._ready = trio.Event()
        self._loop: BaseTrioEventLoop | None = None
        self._docker: Docker | None = None
        self._path = ""
        self._info: EngineInfo | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the loop that asyncio needs, from when it is first needed until cancelled."""
        task_status.started()
        await self._needed.wait()
        # Half a second of imports: in another thread, so that the scheduler goes on meanwhile.
        await trio.to_thread.run_sync(importlib.import_module, "aiodocker")
        import trio_asyncio

        async with trio_asyncio.open_loop() as loop:
            self._loop = loop
            self._ready.set()
            try:
                await trio.sleep_forever()
            finally:
                self._loop = None
                if self._docker:
                    with trio.move_on_after(1, shield=True):
                        await loop.run_aio_coroutine(self._docker.close())

    def socket_paths(self) -> list[str]:
        """The paths at which a socket is looked for. Raises `NoEngine` for a `DOCKER_HOST` that is no Unix socket."""
        if host := self._environ.get("DOCKER_HOST"):
            if not host.startswith("unix://"):
                raise NoEngine(
                    f"DOCKER_HOST={host} is not on this machine; set it to unix:///path/of/a/socket"
                )
            return [host.removeprefix("unix://")]
        run = self._environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        return [
            "/var/run/docker.sock",
            f"{run}/docker.sock",
            f"{run}/podman/podman.sock",
            "/run/podman/podman.sock",
        ]

    async def call(self, request: Callable[["Docker"], Awaitable[T]]) -> T:
        """The engine's answer, however long it takes. Raises `NoEngine`, `EngineError`."""
        docker = await self._connect()
        from aiodocker import DockerError
        from aiohttp import ClientError

        try:
            return await self._under_asyncio(partial(request, docker))
        except DockerError as error:
            if error.status == _UNREACHABLE:
                raise self._away(error) from error
            raise EngineError(str(error.message).strip(), int(error.status)) from error
        except (ClientError, OSError, EOFError) as error:
            raise self._away(error) from error

    async def _under_asyncio(self, request: Callable[[], Awaitable[T]]) -> T:
        if self._loop is None:
            raise NoEngine("the daemon stops; try again")
        answer: T = await self._loop.run_aio_coroutine(request())
        return answer

    async def ask(self, request: Callable[["Docker"], Awaitable[T]]) -> T:
        """`call` for what a healthy engine answers at once. Raises `NoEngine`, `EngineError`."""
        await self._connect()  # the first time it imports for longer than an answer may take
        with trio.move_on_after(self._patience):
            return await self.call(request)
        self._info = None
        raise NoEngine(f"none answers at {self._path} within {self._patience:g} seconds; start one")

    async def _connect(self) -> "Docker":
        """The engine's client, made when it is first needed. Raises `NoEngine`."""
        self._needed.set()
        await self._ready.wait()
        if self._docker is None:
            from aiodocker import Docker
            from aiohttp import ClientTimeout

            self._path = self._socket()

            async def make() -> Docker:
                # Somebody else may have come first; a client is never made for nothing, or it would not be closed.
                if self._docker is None:
                    url = f"unix://{self._path}"
                    self._docker = Docker(url, timeout=ClientTimeout(total=None))
                return self._docker

            return await self._under_asyncio(make)
        return self._docker

    def _socket(self) -> str:
        paths = self.socket_paths()
        for path in paths:
            if os.access(path, os.R_OK | os.W_OK):
                return path
        denied = next((path for path in paths if os.path.exists(path)), None)
        if denied:
            raise NoEngine(f"you may not use {denied}; join the group docker and log in again")
        raise NoEngine(f"none answers at {' or '.join(paths)}; start one")

    def _away(self, error: Exception) -> NoEngine:
        self._info = None  # another engine may start in its place
        return NoEngine(f"none answers at {self._path} ({type(error).__name__}); start one")

    async def info(self) -> EngineInfo:
        """What kind of engine it is; requested once."""
        if self._info is None:
            info = await self.ask(lambda docker: docker.system.info())
            options = " ".join(info.get("SecurityOptions") or ())
            version = await self.ask(lambda docker: docker.version())
            names = [part.get("Name", "") for part in version.get("Components") or ()]
            podman = any("Podman" in name for name in names)
            self._info = EngineInfo(
                nvidia="nvidia" in (info.get("Runtimes") or ()),
                cdi=podman
                or any(glob(f"{path}/*nvidia*") for path in info.get("CDISpecDirs") or ()),
                rootless="name=rootless" in options,
                podman=podman,
                remaps="name=userns" in options,
                registry=info.get("IndexServerAddress", ""),
            )
        return self._info


class Tolerate:
    """A scope that ends quietly where the engine refuses with one of some statuses."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = statuses

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return isinstance(error, EngineError) and error.engine_status in self._statuses
