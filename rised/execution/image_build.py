"""From an experiment that names an image to the image: pulled if it is not there, built if there are `install` steps.

    BUILDING            with the submission; `builds` and a row in `jobs` say so
    pull                its progress goes to the log of `144.build`
    build               a job as any other: started held, recorded, begun, waited for
    commit              its container becomes an image
    PENDING             with the image's ID; from here on the experiment waits for its turn

A crash before the build is recorded starts it anew, with the next attempt number; after that it is adopted. One between
commit and PENDING finds the image by its label.
"""

import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial

import trio

from rised.crashpoints import crash_point
from rised.execution.images import BUILT, Images, Recipe
from rised.execution.launch import HeldJob
from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.experiments.transitions import until_room
from rised.linux.files import disk_may_be_full, make_directory
from rised.log import log
from rised.policy.outcome import KillMode
from rised.runners.base import Container, Exit, Job
from rised.runners.docker import images
from rised.runners.docker.images import ImageInfo
from rised.runners.identity import decode, encode
from rised.storage.experiments import owner_of
from rised.storage.rows import BUILD, JobRow, file_beside
from rised.users.files import open_log
from riseml_proto.errors import NoEngine, RisemlError, describe
from riseml_proto.ids import job_id

_RETRY_SECONDS = 5.0
_TRIES = 4
"""How often it is tried where the engine goes away, and takes a build along."""


class _Failed(Exception):
    """The image cannot be made; the text says why."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class ImageBuild:
    """The making of one experiment's image."""

    def __init__(
        self, services: Services, images: Images, experiment: Experiment, done: Callable[[], None]
    ) -> None:
        """`done` is called when the experiment has its image, or has ended without."""
        self._services = services
        self._images = images
        self._experiment = experiment
        self._done = done
        self._kill = experiment.row.kill
        self._scope = trio.CancelScope()
        self._own_attempt = 0  # the attempt whose log this daemon has begun

    def kill(self, mode: KillMode) -> None:
        """Make it end: nothing of a build is worth a grace period."""
        self._kill = max(self._kill, mode)
        self._scope.cancel()

    async def run(self) -> None:
        """Make the image, and write what came of it: the image, a failure, or a kill."""
        services, experiment = self._services, self._experiment
        experiment.build_attempt = self._row().attempt
        try:
            with self._scope:
                if self._kill:
                    self._scope.cancel()
                image = await self._make()
                await until_room(partial(services.transitions.built, experiment, image))
        except _Failed as failed:
            log.warning("no image", experiment=experiment.number, why=str(failed))
            await until_room(
                partial(services.transitions.fail_rest, experiment, str(failed), failed.code)
            )
        if self._kill and not experiment.done.is_set():
            await until_room(partial(services.transitions.kill_rest, experiment, self._kill))
        experiment.building = None
        self._done()
        await services.runner.clean(self._job(self._row().attempt))

    async def _make(self) -> str:
        """The image's ID. Raises `_Failed`."""
        experiment, row = self._experiment, self._experiment.row
        try:
            recipe = await self._images.recipe(
                owner_of(row), row.user, experiment.config, row.revision, file_beside(row)
            )
            async with self._images.alone(recipe):
                for left in reversed(range(_TRIES)):
                    try:
                        if image := await self._try(recipe):
                            return image
                    except NoEngine:
                        if not left:
                            raise
                        await trio.sleep(_RETRY_SECONDS)
        except (RisemlError, OSError) as error:
            raise _Failed(describe(error)) from error
        raise _Failed("the container that built the image ended, and nobody knows how")

    async def _try(self, recipe: Recipe) -> str | None:
        """Make the image; None where its build ended, and nobody knows how."""
        base = await self._base(recipe)
        if not recipe.steps:
            return base.id
        return await self._images.built(recipe, base) or await self._build(recipe, base)

    async def _base(self, recipe: Recipe) -> ImageInfo:
        if base := await images.find(self._images.engine, recipe.name):
            return base
        path = self._log_path(self._fresh_attempt())
        with disk_may_be_full(path):
            make_directory(os.path.dirname(path))
            file = open_log(path, owner_of(self._experiment.row))
            watch = self._services.watcher.add(path, self._notify)
            try:
                return await images.pull(
                    self._images.engine,
                    recipe.name,
                    lambda line: os.write(file, line.encode(errors="replace") + b"\n"),
                )
            finally:
                watch.close()
                os.close(file)

    async def _build(self, recipe: Recipe, base: ImageInfo) -> str | None:
        """Run the steps in a container and make an image of it; None where its end is unknown. Raises `_Failed`."""
        job, handle = held = await self._launch(base)
        watch = self._services.watcher.add(job.log, self._notify)
        try:
            if handle.is_held:
                await self._begin(held)
            status = await handle.wait()
            await handle.settle(0)
        except trio.Cancelled:
            if self._scope.cancel_called:
                with trio.CancelScope(shield=True):
                    await handle.kill(0)
                    await handle.settle(0)
            raise
        finally:
            watch.close()
            handle.close()
        return await self._conclude(recipe, base, held, status)

    async def _launch(self, base: ImageInfo) -> HeldJob:
        """Start the build's job, held, or adopt the one that an earlier daemon recorded."""
        services, experiment = self._services, self._experiment.row
        row = self._row()
        if row.handle:
            job = self._job(row.attempt, base.id)
            log.info("build adopted", job=job.id, attempt=job.attempt)
            return HeldJob(job, await services.runner.adopt(job, decode(row.handle)))
        attempt = self._fresh_attempt()
        files = await services.revisions.checkout(
            experiment.user, experiment.project, experiment.revision
        )
        job = self._job(attempt, base.id, files)
        with disk_may_be_full(job.log):
            make_directory(os.path.dirname(job.log))
        return HeldJob(job, await services.runner.start(job))

    async def _begin(self, held: HeldJob) -> None:
        """Record a held job, and let it begin."""
        job, handle = held
        row = self._row()._replace(attempt=job.attempt, handle=encode(handle.identity))
        self._services.transitions.save_job(row)
        await self._services.database.sync()
        crash_point("before-build")
        handle.begin("")

    async def _conclude(
        self, recipe: Recipe, base: ImageInfo, held: HeldJob, status: Exit
    ) -> str | None:
        job, handle = held
        crash_point("build-ended")
        if status.code == 0 and status.begun:
            labels = {
                BUILT: recipe.key(base.id),
                "riseml.base": recipe.name,
                "riseml.project": self._experiment.row.project,
                "riseml.user": self._experiment.row.user,
            }
            image = await self._images.containers.commit(job, handle.identity, labels)
            crash_point("build-committed")
            return image
        if status.begun and status.code is not None:
            command = "; ".join(recipe.steps)
            raise _Failed(f"Command '{command}' return code: {status.code}", status.code)
        await self._services.runner.clean(job)
        self._services.transitions.save_job(self._row()._replace(handle=None))
        self._own_attempt = 0
        return None

    def _fresh_attempt(self) -> int:
        """Number of the build that begins now: the next one where an earlier daemon left something in its log."""
        attempt = self._experiment.build_attempt
        path = self._log_path(attempt)
        if attempt != self._own_attempt and os.path.exists(path) and os.path.getsize(path):
            attempt += 1
            self._services.transitions.build_again(self._experiment, attempt)
        self._own_attempt = attempt
        return attempt

    def _row(self) -> JobRow:
        row = self._services.database.jobs.get(self._experiment.number, BUILD)
        assert row is not None
        return row

    def _job(self, attempt: int, image: str = "", files: str = "") -> Job:
        """One attempt at building the image out of `image`."""
        experiment, data_dir = self._experiment, self._services.settings.data_dir
        return Job(
            id=job_id(experiment.number, 0, BUILD),
            attempt=attempt,
            commands=_announced(experiment.config.install),
            # The same for every experiment with the same riseml.yml.
            env={"PYTHONUNBUFFERED": "1", **experiment.config.env},
            files=files,
            log=self._log_path(attempt),
            owner=owner_of(experiment.row),
            container=Container(image=image, output="", data=data_dir, build=True),
        )

    def _log_path(self, attempt: int) -> str:
        return self._services.layout.log(self._experiment.number, 0, BUILD, attempt)

    def _notify(self) -> None:
        self._services.transitions.subscriptions.notify(self._experiment.number)


def _announced(steps: Sequence[str]) -> list[str]:
    """The steps, each with a line before it that says which one it is."""
    commands = []
    for number, step in enumerate(steps, 1):
        heading = f"Step {number}/{len(steps)}: {step}"
        commands += [f"printf '%s\\n' {shlex.quote(heading)}", step]
    return commands
