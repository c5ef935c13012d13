"""A job from its description to the moment before it begins: described, started, held.

A held job is there and waits for its start signal; if the daemon dies before, it ends without having begun.
"""

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from rised.crashpoints import crash_point
from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.experiments.job_spec import commands, environment
from rised.linux.files import disk_may_be_full, make_directory, opened_regular, write_file
from rised.policy import shortage
from rised.policy.resources import Grant
from rised.policy.shortage import passes
from rised.runners.base import Container, Exit, Job, JobHandle, JobResources
from rised.storage.experiments import owner_of
from rised.storage.rows import TRAIN, file_beside
from rised.users.impersonation import impersonating
from riseml_proto import ids

_IMAGE_IGNORED = "rised: image {} is ignored: jobs are processes here\n"


class HeldJob(NamedTuple):
    """A job that is started and waits for its start signal."""

    job: Job
    handle: JobHandle


def member_job(
    services: Services,
    experiment: Experiment,
    member: int,
    attempt: int,
    files: str = "",
    grant: Grant | None = None,
) -> Job:
    """Describe one attempt of a member's job. `grant` is None where its GPUs are not known yet, or do not matter."""
    config, output = experiment.config, services.layout.output(experiment.row, member)
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
        resources=JobResources(config.cpus, config.mem, config.cpus_limit, config.mem_limit),
        shell=config.shell,
        stop_signal=config.stop_signal,
        kill_grace=config.grace(services.settings.kill_grace),
    )


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


def next_attempt(services: Services, experiment: Experiment, member: int, last: int) -> int:
    """The number of the attempt after `last`.

    An attempt whose log holds something was made before, and the database lost it with the machine's power.
    """
    while True:
        last += 1
        try:
            stat = os.stat(services.layout.log(experiment.number, member, TRAIN, last))
        except FileNotFoundError:
            return last
        if not stat.st_size:
            return last


async def start(
    services: Services,
    experiment: Experiment,
    member: int,
    attempt: int,
    grant: Grant | None = None,
    before_long: Callable[[], Awaitable[None]] | None = None,
) -> HeldJob:
    """Make what a member's job needs and start it, held. `before_long` is called first if that takes its time.

    Raises `RisemlError`, among them `StorageFull`, or `OSError`; then the caller lets the runner clean up.
    """
    row = experiment.row
    files = await services.revisions.checkout(row.user, row.project, row.revision)
    job = member_job(services, experiment, member, attempt, files, grant)
    if before_long and not services.runner.starts_at_once(job):
        await before_long()
    with disk_may_be_full(job.log):
        make_directory(os.path.dirname(job.log))
    if job.container:  # it is mounted when the container is made
        services.check_output_mount()
        with disk_may_be_full(job.container.output):
            services.layout.make_output(row, member)
    return HeldJob(job, await services.runner.start(job))


def make_output(services: Services, experiment: Experiment, member: int) -> None:
    """Make the output directory of a job that is about to begin. Raises `OSError`, `StorageFull`."""
    text = experiment.configuration.text(experiment.params(member) or None).encode()
    services.check_output_mount()
    with disk_may_be_full(services.layout.output(experiment.row, member)):
        output = services.layout.make_output(experiment.row, member)
        with impersonating(owner_of(experiment.row)):
            write_file(os.path.join(output, "riseml-configuration.yml"), text)
    crash_point("output-made")


def log_ignored_image(experiment: Experiment, job: Job) -> None:
    """Write into the log of a job that is about to begin that its image is ignored, if it is."""
    if experiment.config.image and not job.container:
        with contextlib.suppress(OSError), open(job.log, "a", encoding="utf-8") as file:
            file.write(_IMAGE_IGNORED.format(experiment.config.image))


def shortage_behind(error: BaseException | None) -> int | None:
    """The kernel's error behind `error` if that may pass by itself (`policy.shortage`), else None."""
    while error is not None:
        if isinstance(error, OSError) and passes(error.errno):
            return error.errno
        error = error.__cause__
    return None


def could_not_fork(job: Job, status: Exit) -> bool:
    """Whether the shell of a job that has ended like this could not fork the job's program: none of it has run."""
    if status.code not in shortage.FORK_CODES:
        return False
    try:
        with opened_regular(job.log) as fd:
            output = os.read(fd, 4096)
    except OSError:
        return False
    return shortage.could_not_fork(job.commands, status.code, output)


async def abandon(services: Services, held: HeldJob) -> None:
    """End a held job, and remove what was made for it."""
    held.handle.close()
    await held.handle.wait()
    await held.handle.settle(0)
    await services.runner.clean(held.job)
