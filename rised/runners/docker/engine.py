"""The container engine (Docker, or Podman's compatible socket), as plain calls with plain data.

aiodocker is asyncio: it lives here, under trio-asyncio, and nowhere else. Neither is imported, nor a loop started,
before somebody first asks the engine something.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import trio

from rised.runners.docker.credentials import credentials
from riseml_proto.errors import EngineError, ImageFailed, NoEngine

if TYPE_CHECKING:
    from aiodocker import Docker
    from trio_asyncio import BaseTrioEventLoop

T = TypeVar("T")

_NOT_FOUND, _CONFLICT, _NOT_MODIFIED = 404, 409, 304
_UNREACHABLE = 900  # what aiodocker calls it
_AUTH = (401, 403)


class ImageInfo(NamedTuple):
    """An image that is there."""

    id: str
    env: Mapping[str, str]


class EngineInfo(NamedTuple):
    """What decides how containers are made."""

    nvidia: bool
    """Whether it has the nvidia runtime."""
    cdi: bool
    """Whether it knows NVIDIA's GPUs as CDI devices."""
    rootless: bool
    podman: bool
    remaps: bool
    """Whether it gives containers other user ids than those that they see."""
    registry: str
    """Where it looks for images whose names have no host."""


class Engine:
    """One engine, found when it is first needed. `run` must run."""

    def __init__(self, environ: Mapping[str, str] = os.environ, patience: float = 30) -> None:
        """`environ` may name it (`DOCKER_HOST`); in `patience` seconds it has to answer a simple question."""
        self._environ = environ
        self._patience = patience
        self._wanted = trio.Event()
        self._ready = trio.Event()
        self._loop: BaseTrioEventLoop | None = None
        self._docker: Docker | None = None
        self._path = ""
        self._info: EngineInfo | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the loop that asyncio needs, from when it is first needed until cancelled."""
        task_status.started()
        await self._wanted.wait()
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

    def places(self) -> list[str]:
        """Where a socket is looked for. Raises `NoEngine` for a `DOCKER_HOST` that is no Unix socket."""
        if host := self._environ.get("DOCKER_HOST"):
            if not host.startswith("unix://"):
                raise NoEngine(
                    f"DOCKER_HOST={host} is not on this machine; jobs need unix:///path/of/a/socket"
                )
            return [host.removeprefix("unix://")]
        run = self._environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        return [
            "/var/run/docker.sock",
            f"{run}/docker.sock",
            f"{run}/podman/podman.sock",
            "/run/podman/podman.sock",
        ]

    async def _call(self, ask: Callable[["Docker"], Awaitable[T]]) -> T:
        """What the engine answers. Raises `NoEngine`, `EngineError`."""
        self._wanted.set()
        await self._ready.wait()
        from aiodocker import Docker, DockerError
        from aiohttp import ClientError, ClientTimeout

        if self._loop is None:
            raise NoEngine("the daemon stops")

        async def asked() -> T:
            if self._docker is None:
                self._path = self._socket()
                self._docker = Docker(f"unix://{self._path}", timeout=ClientTimeout(total=None))
            return await ask(self._docker)

        try:
            answer: T = await self._loop.run_aio_coroutine(asked())
        except DockerError as error:
            if error.status == _UNREACHABLE:
                raise self._away(error) from error
            raise EngineError(str(error.message).strip(), int(error.status)) from error
        except (ClientError, OSError, EOFError) as error:
            raise self._away(error) from error
        return answer

    async def _ask(self, ask: Callable[["Docker"], Awaitable[T]]) -> T:
        """`_call` for what an engine that is well knows at once."""
        with trio.move_on_after(self._patience):
            return await self._call(ask)
        self._info = None
        raise NoEngine(f"none answers at {self._path} within {self._patience:g} seconds")

    def _socket(self) -> str:
        places = self.places()
        for path in places:
            if os.access(path, os.R_OK | os.W_OK):
                return path
        denied = next((path for path in places if os.path.exists(path)), None)
        if denied:
            raise NoEngine(f"you may not use {denied} (Docker lets the group docker)")
        raise NoEngine(f"none answers at {' or '.join(places)}")

    def _away(self, error: Exception) -> NoEngine:
        self._info = None  # another one may come in its place
        return NoEngine(f"none answers at {self._path} ({type(error).__name__})")

    async def info(self) -> EngineInfo:
        """What kind of engine it is; asked once."""
        if self._info is None:
            found = await self._ask(lambda docker: docker.system.info())
            options = " ".join(found.get("SecurityOptions") or ())
            version = await self._ask(lambda docker: docker.version())
            names = [part.get("Name", "") for part in version.get("Components") or ()]
            podman = any("Podman" in name for name in names)
            self._info = EngineInfo(
                nvidia="nvidia" in (found.get("Runtimes") or ()),
                cdi=podman or _has_cdi(found.get("CDISpecDirs") or ()),
                rootless="name=rootless" in options,
                podman=podman,
                remaps="name=userns" in options,
                registry=found.get("IndexServerAddress", ""),
            )
        return self._info

    # Images.

    async def look(self, name: str) -> ImageInfo | None:
        """An image by name or ID; None where it is not there."""
        try:
            found = await self._ask(lambda docker: docker.images.inspect(name))
        except EngineError as error:
            if error.engine_status == _NOT_FOUND:
                return None
            raise
        pairs = (entry.partition("=") for entry in (found.get("Config") or {}).get("Env") or ())
        return ImageInfo(found["Id"], {key: value for key, _, value in pairs})

    async def pull(self, name: str, line: Callable[[str], None]) -> ImageInfo:
        """Fetch an image; `line` gets a text for each step. Raises `ImageFailed`, `NoEngine`."""
        wanted = name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
        default = (await self.info()).registry
        auth = await trio.to_thread.run_sync(credentials, wanted, default)
        line(f"Pulling {wanted}")

        async def pull(docker: "Docker") -> None:
            said: dict[str, str] = {}
            async for step in docker.images.pull(wanted, auth=auth, stream=True, timeout=None):
                if problem := step.get("error"):
                    raise ImageFailed(f"{wanted}: {problem}")
                layer, status = step.get("id", ""), step.get("status", "")
                if status and said.get(layer) != status and layer not in ("", wanted):
                    said[layer] = status
                    if status in ("Pull complete", "Already exists", "Downloading"):
                        line(f"{layer}: {status}")
                elif status and not layer:
                    line(status)

        try:
            await self._call(pull)
        except EngineError as error:
            hint = "; log in with docker login" if error.engine_status in _AUTH else ""
            raise ImageFailed(f"{wanted} cannot be pulled: {error}{hint}") from error
        found = await self.look(wanted)
        if found is None:
            raise ImageFailed(f"{wanted} was pulled, but is not there")
        return found

    async def images(self, *labels: str) -> list[str]:
        """IDs of the images with all these labels, given as `key` or `key=value`."""
        found = await self._call(
            lambda docker: docker.images.list(filters={"label": list(labels)}, all=True)
        )
        return [image["Id"] for image in found]

    async def built(self, label: str) -> str | None:
        """ID of an image with a label."""
        found = await self.images(label)
        return found[0] if found else None

    async def remove_image(self, image: str) -> bool:
        """Remove it with its names; False where something uses it."""
        try:
            await self._call(lambda docker: docker.images.delete(image, force=False))
        except EngineError as error:
            if error.engine_status not in (_CONFLICT, _NOT_FOUND):
                raise
            return error.engine_status == _NOT_FOUND
        return True

    # Containers.

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Make a container of this name in place of any that has it; return its ID."""
        for last in (False, True):
            try:
                made = await self._call(
                    lambda docker: docker.containers.create(dict(config), name=name)
                )
                return str(made.id)
            except EngineError as error:
                if error.engine_status != _CONFLICT or last:
                    raise
            await self.remove(name)
        raise AssertionError

    async def start(self, container: str) -> int:
        """Start it; return its first process's pid, 0 if that has ended already."""
        await self._call(lambda docker: docker.containers.container(container).start())
        found = await self.inspect(container)
        return int(found["State"]["Pid"]) if found else 0

    async def inspect(self, container: str) -> Mapping[str, Any] | None:
        """What the engine knows of it; None where it knows none."""
        try:
            found: Mapping[str, Any] = await self._call(
                lambda docker: docker.containers.container(container).show()
            )
        except EngineError as error:
            if error.engine_status == _NOT_FOUND:
                return None
            raise
        return found

    async def wait(self, container: str) -> int | None:
        """Return its exit code when it has ended; None where there is none of it."""
        try:
            found = await self._call(
                lambda docker: docker.containers.container(container).wait(timeout=None)
            )
        except EngineError as error:
            if error.engine_status == _NOT_FOUND:
                return None
            raise
        return int(found["StatusCode"])

    async def terminate(self, container: str) -> None:
        """SIGTERM to all of it but its init; the engine's own way reaches the first process alone."""

        async def signal(docker: "Docker") -> None:
            found = docker.containers.container(container)
            made = await found.exec(["/bin/sh", "-c", "kill -TERM -1"])
            await made.start(detach=True)

        await self._call(signal)

    async def kill(self, container: str) -> None:
        """SIGKILL to all of it, also where it is paused."""
        for ask in ("unpause", "kill"):
            try:
                await self._call(
                    lambda docker, ask=ask: getattr(docker.containers.container(container), ask)()  # type: ignore[misc]
                )
            except EngineError as error:  # it is not paused, or has ended
                if error.engine_status < _NOT_FOUND:
                    raise

    async def remove(self, container: str) -> None:
        """Remove it, running or not, by ID or name; one that is not there is removed."""
        try:
            await self._call(
                lambda docker: docker.containers.container(container).delete(force=True, v=True)
            )
        except EngineError as error:
            if error.engine_status not in (_NOT_FOUND, _CONFLICT):  # it is being removed
                raise

    async def commit(
        self, container: str, name: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> str:
        """Make an image of an ended container, called `repository:tag`; return its ID."""
        repository, _, tag = name.partition(":")
        made = await self._call(
            lambda docker: docker.containers.container(container).commit(
                repository=repository,
                tag=tag,
                changes=list(changes),
                config={"Labels": dict(labels)},
                timeout=None,
            )
        )
        return str(made["Id"])


def _has_cdi(directories: Sequence[str]) -> bool:
    return any(
        "nvidia" in name
        for directory in directories
        if os.path.isdir(directory)
        for name in os.listdir(directory)
    )
