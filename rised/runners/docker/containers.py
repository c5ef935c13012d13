"""Containers of the container engine, by ID or name. All raise `NoEngine` and `EngineError`."""

import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rised.runners.docker.engine import CONFLICT, NOT_FOUND, Engine, Tolerate
from riseml_proto.errors import EngineError

if TYPE_CHECKING:
    from rised.runners.docker.engine import Docker


async def create(engine: Engine, name: str, config: Mapping[str, Any]) -> str:
    """Make a container called `name` in place of any that has the name; return its ID."""

    async def create(docker: "Docker") -> str:
        return str((await docker.containers.create(dict(config), name=name)).id)

    with Tolerate(CONFLICT):
        return await engine.call(create)
    await remove(engine, name)
    return await engine.call(create)


async def start(engine: Engine, container: str) -> int:
    """Start it; return its first process's pid, 0 if that has ended already."""
    await engine.call(lambda docker: docker.containers.container(container).start())
    with Tolerate(NOT_FOUND):
        facts = await engine.call(lambda docker: docker.containers.container(container).show())
        return int(facts["State"]["Pid"])
    return 0


async def wait(engine: Engine, container: str) -> int | None:
    """Return its exit code when it has ended; None where the engine knows no such container."""
    with Tolerate(NOT_FOUND):
        answer = await engine.call(
            lambda docker: docker.containers.container(container).wait(timeout=None)
        )
        return int(answer["StatusCode"])
    return None


async def terminate(engine: Engine, container: str, number: signal.Signals) -> None:
    """A signal to all of it but its init; the engine's own way reaches the first process alone."""

    async def terminate(docker: "Docker") -> None:
        command = ["/bin/sh", "-c", f"kill -{number:d} -1"]
        await (await docker.containers.container(container).exec(command)).start(detach=True)

    await engine.call(terminate)


async def kill(engine: Engine, container: str) -> None:
    """SIGKILL to all of it, also where it is paused."""
    for step in ("unpause", "kill"):
        try:
            await engine.call(
                lambda docker, step=step: getattr(docker.containers.container(container), step)()  # type: ignore[misc]
            )
        except EngineError as error:  # it is not paused, or has ended
            if error.engine_status < NOT_FOUND:
                raise


async def remove(engine: Engine, container: str) -> None:
    """Remove it, running or not; one that is not there, or is being removed, is no error."""
    with Tolerate(NOT_FOUND, CONFLICT):
        await engine.call(
            lambda docker: docker.containers.container(container).delete(force=True, v=True)
        )


async def commit(
    engine: Engine, container: str, name: str, changes: Sequence[str], labels: Mapping[str, str]
) -> str:
    """Make an image of an ended container, called `repository:tag`; return its ID."""
    repository, _, tag = name.partition(":")
    image = await engine.call(
        lambda docker: docker.containers.container(container).commit(
            repository=repository,
            tag=tag,
            changes=list(changes),
            config={"Labels": dict(labels)},
            timeout=None,
        )
    )
    return str(image["Id"])
