"""From the text of a riseml.yml to an experiment that the scheduler has.

parse       the text is a valid riseml.yml
check       the machine could run it, and the submission takes nothing along that it must not (pure)
admit       the disk has room, and no quota is exceeded
revision    the project's files are there
image       its ID, or the fact that it must be pulled or built
write       the row is in the database, the scheduler has the experiment: a kill finds it
sync        the row is on disk; only now does the submitter get an answer
"""

import json
import os
import shutil
from collections.abc import Iterator

import msgspec
import trio

from rised.clock import now_ms
from rised.crashpoints import crash_point
from rised.execution.images import Images
from rised.execution.services import Services
from rised.log import log
from rised.policy.resources import Capacity, ResourceRequest, shortages
from rised.runners.commands import needs_bash
from rised.scheduling.admission import Admission
from rised.scheduling.scheduler import Scheduler
from rised.storage.experiments import encode_owner
from rised.storage.rows import ExperimentRow
from rised.tensorboard import manager
from rised.users.owner import Owner, of_peer, own
from rised.users.peer import Peer
from riseml_proto import config as riseml_yml
from riseml_proto import waiting
from riseml_proto.config import Config
from riseml_proto.errors import InvalidInput, NoEngine, NotFound, StorageFull, Unsatisfiable
from riseml_proto.messages import Submission
from riseml_proto.states import State

_ENV = frozenset({"PATH", "VIRTUAL_ENV", "CONDA_PREFIX"})
_PRIORITIES = range(-100, 101)


class Submissions:
    """Turns submissions into experiments, one after another or at the same time."""

    def __init__(
        self, services: Services, images: Images, scheduler: Scheduler, admission: Admission
    ) -> None:
        self._services = services
        self._settings = services.settings
        self._images = images
        self._scheduler = scheduler
        self._admission = admission

    async def submit(self, submission: Submission, peer: Peer) -> tuple[ExperimentRow, list[str]]:
        """Start an experiment for `peer`; return its row and warnings when it is on disk.

        Raises `ConfigError`, `InvalidInput`, `Unsatisfiable`, `QuotaExceeded`, `StorageFull`, `NotFound`. Then nothing
        was written.
        """
        config = await trio.to_thread.run_sync(
            riseml_yml.parse_config, submission.config, submission.config_file
        )
        check(config, submission, self._settings.runner, self._scheduler.inventory.total)
        owner = of_peer(peer)
        await self._admit(config, peer.user, owner)
        if not await self._services.revisions.exists(
            peer.user, config.project, submission.revision
        ):
            raise NotFound(
                f"project {config.project} has no revision {submission.revision}; sync it first"
            )
        image, build = await self._image(config, submission, peer.user, owner)
        # Nothing can come between this check and the new row: neither waits for anything.
        accounts = [state.accounts for state in self._scheduler.unfinished.states.values()]
        self._admission.check_queued(peer.user, owner, accounts)
        row = ExperimentRow(
            id=0,
            user=peer.user,
            uid=peer.uid,
            project=config.project,
            revision=submission.revision,
            config=submission.config,
            config_file=submission.config_file,
            env=json.dumps(submission.env),
            members=config.count,
            state=State.BUILDING if build else State.PENDING,
            created_ms=now_ms(),
            image=image,
            builds=int(build),
            owner=encode_owner(owner if self._settings.system else _with_rights_of(owner)),
            priority=submission.priority,
        )
        experiment = self._services.transitions.submit(row, config)
        self._scheduler.add(experiment)
        row = experiment.row
        await self._services.database.sync()
        crash_point("before-acknowledge")
        log.info(
            "experiment submitted",
            id=row.id,
            user=row.user,
            project=row.project,
            count=row.members,
        )
        return row, list(warnings(config, self._settings.runner, submission.env.get("PATH")))

    async def _admit(self, config: Config, user: str, owner: Owner) -> None:
        """Raise `StorageFull` or `QuotaExceeded` where the experiment has no room."""
        needed = max(1, self._settings.min_free)
        for directory in (self._settings.state_dir, self._settings.output_dir):
            disk = os.statvfs(directory)
            free = disk.f_bavail * disk.f_frsize >> 20
            if free < needed:
                raise StorageFull(
                    f"only {free} MiB are free on the disk of {directory}, and new experiments need"
                    f" {needed}; free some"
                )
        self._admission.check_gpus(user, owner, config)
        await self._admission.check_disk(user, owner)

    async def _image(
        self, config: Config, submission: Submission, user: str, owner: Owner
    ) -> tuple[str | None, bool]:
        """ID of the image to run in, if it is there, and whether it must be made. Raises `Unsatisfiable`."""
        if config.image is None or self._settings.runner == "process":
            return None, False
        recipe = await self._images.recipe(
            owner, user, config, submission.revision, submission.config_file
        )
        try:
            image = await self._images.ready(recipe)
        except NoEngine as error:
            raise Unsatisfiable(
                f"{config.file}: train.image: {config.image} needs a container engine: {error}, leave"
                " image out, or ignore it by --runner process, or runner: process in config.yml"
            ) from error
        return image, image is None


def check(config: Config, submission: Submission, runner: str, total: Capacity) -> None:
    """Raise `Unsatisfiable`, `InvalidInput` or `ConfigError` for what a machine with `total` never runs. Pure."""
    doubtful = riseml_yml.doubts(config)
    if submission.strict and doubtful:
        raise doubtful[0]
    if not config.image and runner == "docker":
        raise Unsatisfiable(
            f"{config.file}: train.image: is missing, and this daemon runs nothing but containers; name one,"
            " such as image: python:3.11, or start rised with --runner auto"
        )
    check_priority(submission.priority)
    request = ResourceRequest(config.cpus, config.mem, config.gpus)
    if missing := shortages(request, total):
        amounts = waiting.amounts(missing, "in this machine")
        raise Unsatisfiable(f"{config.file}: train.resources: asks for {amounts}; ask for less")
    if odd := set(submission.env) - _ENV:
        raise InvalidInput(
            f"env: {min(odd)} is not taken from the submitter; put it under env: in riseml.yml"
        )
    if any("\0" in value for value in submission.env.values()):
        raise InvalidInput("env: a value holds a NUL byte")


def check_priority(priority: int) -> None:
    """Raise `InvalidInput` for a number that is not a priority."""
    if priority not in _PRIORITIES:
        raise InvalidInput(f"priority: must be from -100 to 100, not {priority}")


def warnings(config: Config, runner: str, path: str | None = None) -> Iterator[str]:
    """What the submitter should know of an experiment that runs all the same. `path`: the PATH of its processes."""
    yield from riseml_yml.warnings(config)
    if config.image and runner == "process":
        yield f"{config.file}: train.image: {config.image} is ignored: this daemon runs processes"
    in_process = not config.image or runner == "process"
    is_bashs = any(needs_bash(command, config.shell) for command in config.run)
    if in_process and is_bashs and not shutil.which("bash", path=path):
        yield (
            f"{config.file}: train.run: there is no bash on this machine; a plain sh runs it, which has"
            " no arrays or [[ ]], and does not see that a part of a pipe fails"
        )
    if config.tensorboard and not manager.is_installed():
        yield f"{config.file}: train.tensorboard: {manager.NOT_INSTALLED}"


def _with_rights_of(submitter: Owner) -> Owner:
    """The daemon's own user, who runs all jobs of a person's own daemon, with the submitter's umask and limits."""
    return msgspec.structs.replace(own(), umask=submitter.umask, limits=submitter.limits)
