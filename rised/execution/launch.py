"""From a place in the queue to a job that waits for leave to begin.

It takes milliseconds, and much longer for a large project. So the next in the queue is started ahead of its turn, as
long as nobody needs to know: nothing is written down, and if the daemon dies, the job's shell meets the end of its pipe
and goes. When its turn comes it is told its GPUs and given leave.
"""

import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import trio

from rised.crashpoints import crash_point
from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.experiments.job_spec import TRAIN, build_environment, commands, environment
from rised.linux.files import disk_may_be_full, make_directory, write_file
from rised.log import log
from rised.policy.resources import Grant
from rised.runners.base import Container, Job, JobHandle, JobResources
from rised.storage.owners import owner_of
from rised.storage.rows import BUILD, file_beside
from rised.users.impersonation import impersonating
from riseml_proto import ids
from riseml_proto.config import Config
from riseml_proto.errors import RisemlError, StorageFull

_IMAGE_IGNORED = "rised: image {} is ignored: jobs are processes here\n"


class HeldJob(NamedTuple):
    """A job that waits for leave."""

    job: Job
    handle: JobHandle


def job(
    services: Services,
    experiment: Experiment,
    member: int,
    attempt: int,
    files: str = "",
    grant: Grant | None = None,
) -> Job:
    """One attempt of a member's job. `grant` is None where nobody knows it yet, or needs to."""
    output = services.layout.output(experiment.row, member)
    return Job(
        id=ids.job_id(experiment.number, member, TRAIN),
        attempt=attempt,
        commands=commands(experiment, member),
        env=environment(
            experiment,
            member,
            output_dir=output,
            data_dir=services.settings.data_dir,
            client_dir=services.layout.client,
        ),
        files=files,
        log=services.layout.log(experiment.number, member, TRAIN, attempt),
        owner=owner_of(experiment.row),
        container=_container(services, experiment, output, grant),
        resources=_resources(experiment.config),
    )


def _resources(config: Config) -> JobResources:
    return JobResources(config.cpus, config.mem, config.cpus_limit, config.mem_limit)


def _container(
    services: Services, experiment: Experiment, output: str, grant: Grant | None
) -> Container | None:
    if experiment.row.image is None:
        return None
    config = experiment.config
    return Container(
        image=experiment.row.image,
        output=output,
        data=services.settings.data_dir,
        gpus=tuple((index, services.gpu_uuids.get(index)) for index in grant.gpus) if grant else (),
        shm=config.shm,
        has_code=bool(config.install),
        config_file=file_beside(experiment.row) if config.install else "",
    )


def build_job(
    services: Services,
    experiment: Experiment,
    attempt: int,
    steps: Sequence[str],
    image: str = "",
    files: str = "",
) -> Job:
    """One attempt at building an experiment's image out of `image`."""
    return Job(
        id=ids.job_id(experiment.number, 0, BUILD),
        attempt=attempt,
        commands=steps,
        env=build_environment(experiment),
        files=files,
        log=services.layout.log(experiment.number, 0, BUILD, attempt),
        owner=owner_of(experiment.row),
        container=Container(image=image, output="", data=services.settings.data_dir, build=True),
    )


def next_attempt(services: Services, experiment: Experiment, member: int, last: int) -> int:
    """The number of the attempt after `last`.

    One whose log holds something was made before: the database forgot it when the machine lost power.
    """
    while True:
        last += 1
        try:
            found = os.stat(services.layout.log(experiment.number, member, TRAIN, last))
        except FileNotFoundError:
            return last
        if not found.st_size:
            return last


async def start(
    services: Services,
    experiment: Experiment,
    member: int,
    attempt: int,
    grant: Grant | None = None,
    before_long: Callable[[], Awaitable[None]] | None = None,
) -> HeldJob:
    """Make what the job needs and start it, held back. `before_long` is called first if that takes its time.

    Raises `RisemlError`, among them `StorageFull`, or `OSError`; then the caller lets the runner clean up.
    """
    row = experiment.row
    files = await services.revisions.checkout(row.user, row.project, row.revision)
    made = job(services, experiment, member, attempt, files, grant)
    if before_long and not services.runner.starts_at_once(made):
        await before_long()
    with disk_may_be_full(made.log):
        make_directory(os.path.dirname(made.log))
    if made.container:  # it is mounted when the container is made
        with disk_may_be_full(made.container.output):
            services.layout.make_output(row, member)
    return HeldJob(made, await services.runner.start(made))


def make_output(services: Services, experiment: Experiment, member: int) -> None:
    """Make the output directory of a job that is about to begin. Raises `OSError`, `StorageFull`."""
    text = experiment.configuration.text(experiment.params(member) or None).encode()
    with disk_may_be_full(services.layout.output(experiment.row, member)):
        output = services.layout.make_output(experiment.row, member)
        with impersonating(owner_of(experiment.row)):
            write_file(os.path.join(output, "riseml-configuration.yml"), text)
    crash_point("output-made")


def tell_of_image(services: Services, experiment: Experiment, made: Job) -> None:
    """Say in the log of a job that is about to begin that its image is ignored."""
    if experiment.config.image and not made.container:
        with contextlib.suppress(OSError), open(made.log, "a", encoding="utf-8") as file:
            file.write(_IMAGE_IGNORED.format(experiment.config.image))


async def abandon(services: Services, held: HeldJob) -> None:
    """End a job that never got leave, and remove what was made for it."""
    held.handle.close()
    await held.handle.wait()
    await held.handle.settle(0)
    await services.runner.clean(held.job)


class Prelaunch:
    """A member's job that is started ahead of its turn."""

    def __init__(self, services: Services, experiment: Experiment, member: int) -> None:
        """Nothing happens before `run`."""
        self._services = services
        self._experiment = experiment
        self._member = member
        self._held: HeldJob | None = None
        self._done = trio.Event()
        self._unwanted = False

    async def run(self) -> None:
        """Start it. What goes wrong will go wrong again when its turn comes, and is told then."""
        services, experiment, member = self._services, self._experiment, self._member
        attempt = next_attempt(services, experiment, member, 0)
        try:
            if not services.has_room():
                raise StorageFull("the disk is nearly full")
            self._held = await start(services, experiment, member, attempt)
        except (RisemlError, OSError) as error:
            log.info("not started ahead", experiment=experiment.number, why=str(error))
            await services.runner.clean(job(services, experiment, member, attempt))
        finally:
            self._done.set()
        if self._unwanted:
            await self.drop()

    async def take(self) -> HeldJob | None:
        """The job, now the caller's; None where it could not be started, or somebody has ended it since."""
        await self._done.wait()
        held, self._held = self._held, None
        if held and not held.handle.is_held:
            await abandon(self._services, held)
            return None
        return held

    async def drop(self) -> None:
        """Its turn will not come."""
        self._unwanted = True
        if self._held:
            held, self._held = self._held, None
            await abandon(self._services, held)
