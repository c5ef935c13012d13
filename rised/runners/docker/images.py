"""Images of the container engine. All raise `NoEngine` and `EngineError`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import trio

from rised.runners.docker.credentials import credentials
from rised.runners.docker.engine import CONFLICT, NOT_FOUND, Engine, Tolerate
from riseml_proto.errors import EngineError, ImageFailed

if TYPE_CHECKING:
    from rised.runners.docker.engine import Docker

_AUTH = (401, 403)


class ImageInfo(NamedTuple):
    """An image that the engine has."""

    id: str
    env: Mapping[str, str]


async def find(engine: Engine, name: str) -> ImageInfo | None:
    """An image by name or ID; None where the engine does not have it."""
    with Tolerate(NOT_FOUND):
        image = await engine.ask(lambda docker: docker.images.inspect(name))
        pairs = (entry.partition("=") for entry in (image.get("Config") or {}).get("Env") or ())
        return ImageInfo(image["Id"], {key: value for key, _, value in pairs})
    return None


async def pull(engine: Engine, name: str, line: Callable[[str], object]) -> ImageInfo:
    """Fetch an image; `line` gets a text for each step. Raises `ImageFailed`."""
    wanted = name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
    default = (await engine.info()).registry
    auth = await trio.to_thread.run_sync(credentials, wanted, default)
    line(f"Pulling {wanted}")

    async def pull(docker: "Docker") -> None:
        shown: dict[str, str] = {}
        async for step in docker.images.pull(wanted, auth=auth, stream=True, timeout=None):
            if problem := step.get("error"):
                raise ImageFailed(f"{wanted}: {problem}")
            layer, status = step.get("id", ""), step.get("status", "")
            if status and shown.get(layer) != status and layer not in ("", wanted):
                shown[layer] = status
                if status in ("Pull complete", "Already exists", "Downloading"):
                    line(f"{layer}: {status}")
            elif status and not layer:
                line(status)

    try:
        await engine.call(pull)
    except EngineError as error:
        hint = "; log in with docker login" if error.engine_status in _AUTH else ""
        raise ImageFailed(f"{wanted} cannot be pulled: {error}{hint}") from error
    image = await find(engine, wanted)
    if image is None:
        raise ImageFailed(f"{wanted} was pulled, but is not there")
    return image


async def with_labels(engine: Engine, *labels: str) -> list[str]:
    """IDs of the images with all these labels, given as `key` or `key=value`."""
    images = await engine.call(
        lambda docker: docker.images.list(filters={"label": list(labels)}, all=True)
    )
    return [image["Id"] for image in images]


async def remove(engine: Engine, image: str) -> bool:
    """Remove an image with its names; False where something uses it."""
    with Tolerate(CONFLICT):
        with Tolerate(NOT_FOUND):
            await engine.call(lambda docker: docker.images.delete(image, force=False))
        return True
    return False
