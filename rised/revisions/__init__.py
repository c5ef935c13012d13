"""Revisions: the files of a project at one time, kept as commits in git.

    commit(manifest) ──> missing blobs ──> receive(blobs) ──> commit(manifest) ──> revision
    revision ──> checkout ──> a pristine tree ──> copy_tree ──> a job's working directory

`Revisions` is the only interface. Everything that blocks runs in threads behind it.
"""

import glob
import os
from collections.abc import AsyncIterator, Callable

import trio

from rised.linux.copy_tree import remove_tree
from rised.linux.threads import in_thread
from rised.revisions import checkout
from rised.revisions.manifest import Limits, is_object_id, plan
from rised.revisions.receive import receive
from rised.revisions.repository import Repository
from riseml_proto.errors import NotFound
from riseml_proto.messages import Manifest, Revision


class Revisions:
    """The revisions of all users' projects, in a state directory that only this process uses."""

    def __init__(self, state_dir: str, *, max_files: int, max_bytes: int) -> None:
        """`max_files` and `max_bytes` limit a project, and also one upload."""
        self._state_dir = os.path.abspath(state_dir)
        self._limits = Limits(max_files, max_bytes)
        self._open: dict[tuple[str, str], Repository] = {}
        self._opening = trio.Lock()

    async def commit(self, user: str, manifest: Manifest) -> Revision:
        """The revision of the manifest's files, or the blobs that are missing for it.

        A revision is on disk when it is returned. Raises `SyncError` for files that no revision can hold and for more
        than the limits allow, `InvalidInput` for impossible names, and `StorageFull`.
        """
        repository = await self._use(user, manifest.project, create=True)
        objects = await in_thread(plan, manifest.files, self._limits)
        async with repository.writing:
            return await in_thread(repository.commit, objects, user)

    async def receive(self, user: str, project: str, chunks: AsyncIterator[bytes]) -> int:
        """Store the blobs of an upload (see `rised.revisions.receive`); return their number."""
        repository = await self._use(user, project, create=True)
        return await receive(repository.objects, self._limits.bytes, chunks)

    async def exists(self, user: str, project: str, revision: str) -> bool:
        """Whether the project has this revision."""
        try:
            repository = await self._use(user, project, create=False)
            await in_thread(repository.tree_of, revision)
        except NotFound:
            return False
        return True

    async def tree_without(self, user: str, project: str, revision: str, name: str) -> str:
        """The ID of the revision's tree without the file `name` at its top. Raises `NotFound`."""
        repository = await self._use(user, project, create=False)
        return await in_thread(repository.tree_without, revision, name)

    async def checkout(self, user: str, project: str, revision: str) -> str:
        """The path of the revision's pristine tree, which is made if there is none. Nobody may write in it.

        Raises `NotFound` for an unknown revision, and `StorageFull`.
        """
        repository = await self._use(user, project, create=False)
        path = repository.tree_path(revision)
        async with repository.tree_lock(revision):
            if not os.path.isdir(path):  # noqa: ASYNC240 — a microsecond, on every job's way
                await in_thread(_make_tree, repository, revision, path)
        return path

    def trees(self) -> list[tuple[str, str, str]]:
        """User, project and revision of every pristine tree."""
        paths = glob.iglob("*/*/[0-9a-f]*", root_dir=os.path.join(self._state_dir, "trees"))
        parts = (path.split("/") for path in paths)
        return [(user, project, name) for user, project, name in parts if is_object_id(name)]

    async def discard(
        self, user: str, project: str, revision: str, wanted: Callable[[], bool] = lambda: False
    ) -> None:
        """Remove the revision's pristine tree, if there is one, unless `wanted` then says that it is needed."""
        try:
            repository = await self._use(user, project, create=False)
        except NotFound:
            return
        path = repository.tree_path(revision)
        async with repository.tree_lock(revision):
            old = None if wanted() else checkout.set_aside(path)
        if old is not None:
            await in_thread(remove_tree, old, abandon_on_cancel=True)

    async def _use(self, user: str, name: str, *, create: bool) -> Repository:
        key = user, name
        if key not in self._open:
            async with self._opening:
                if key not in self._open:
                    repository = Repository(self._state_dir, user, name)
                    if not await in_thread(repository.prepare, create):
                        raise NotFound(f"there is no project {name} of {user}; sync it first")
                    self._open[key] = repository
        return self._open[key]


def _make_tree(repository: Repository, revision: str, path: str) -> None:
    tree = repository.tree_of(revision)
    checkout.make(repository.objects, tree, path, trio.from_thread.check_cancelled)
