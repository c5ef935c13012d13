"""The images that experiments run in: which are there, which must be pulled, which must be built.

A built image is known by a label, the hash of all that went into it: the base image's ID, the steps, the files and
variables that they can see, and the owner of these files. So it is built once, however many experiments need it.
"""

import hashlib
import json
import weakref

import trio

from rised.log import log
from rised.revisions import Revisions
from rised.runners.docker import images
from rised.runners.docker.engine import Engine
from rised.runners.docker.images import ImageInfo
from rised.runners.docker.runner import ContainerRunner
from rised.users.owner import Owner
from riseml_proto.config import Config

BUILT = "riseml.built"
"""The label of a built image."""


class Recipe:
    """Everything that makes an experiment's image but the base image's ID, which is known once that is pulled."""

    def __init__(self, owner: Owner, config: Config, tree: str) -> None:
        """`tree` is the id of the files that the steps see, which are made `owner`'s."""
        assert config.image is not None
        self.name = config.image
        self.steps = config.install
        self._inputs = [tree, sorted(config.env.items())]
        self._owner = owner

    def key(self, base: str) -> str:
        """The value of `BUILT`, for the base image with this ID."""
        parts = [base, list(self.steps), self._inputs, self._owner.uid, self._owner.gid]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Images:
    """The images of one engine."""

    def __init__(self, engine: Engine, containers: ContainerRunner, revisions: Revisions) -> None:
        self.engine = engine
        self.containers = containers
        self._revisions = revisions
        self._locks: weakref.WeakValueDictionary[str, trio.Lock] = weakref.WeakValueDictionary()

    async def recipe(
        self, owner: Owner, user: str, config: Config, revision: str, config_file: str
    ) -> Recipe:
        """The recipe of the image that an experiment's riseml.yml names."""
        tree = ""
        if config.install:
            tree = await self._revisions.tree_without(user, config.project, revision, config_file)
        return Recipe(owner, config, tree)

    async def ready(self, recipe: Recipe) -> str | None:
        """ID of the image if nothing has to be pulled or built for it. Raises `NoEngine`."""
        base = await images.find(self.engine, recipe.name)
        if base is None or not recipe.steps:
            return base.id if base else None
        return await self.built(recipe, base)

    async def built(self, recipe: Recipe, base: ImageInfo) -> str | None:
        """ID of the image that was built of `base`, if it was."""
        built = await images.with_labels(self.engine, f"{BUILT}={recipe.key(base.id)}")
        return next(iter(built), None)

    def alone(self, recipe: Recipe) -> trio.Lock:
        """The lock that a maker of this image holds, so that it is made once."""
        name = json.dumps([recipe.name, recipe.key("")])
        return self._locks.setdefault(name, trio.Lock())

    async def prune(self, used: set[str]) -> list[str]:
        """Remove the images built here that are not `used`; return the IDs of those removed. Raises `NoEngine`."""
        removed = []
        label = f"riseml.instance={self.containers.instance}"
        for image in await images.with_labels(self.engine, BUILT, label):
            if image not in used and await images.remove(self.engine, image):
                log.info("image removed", image=image)
                removed.append(image)
        return removed
