"""Resource usage of running jobs, and telemetry of the GPUs."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import trio

from rised.api.context import Context
from rised.experiments.experiment import Experiment, RunningMember, check_member
from rised.gpus.nvml import GpuTelemetry
from rised.http.request import Answer, Request
from rised.linux.processes import ProcessSnapshot
from rised.linux.usage import Use
from riseml_proto.ids import experiment_id
from riseml_proto.messages import GpuUse, JobUse, Usage


class _Job(NamedTuple):
    """A member that runs."""

    experiment: Experiment
    member: int
    run: RunningMember


async def show(context: Context, request: Request) -> Answer:
    """Show what running jobs use (`Usage`): all of them, or those of `?id=144`."""
    jobs = _jobs(context, request)

    def measure() -> tuple[list[Use], list[GpuTelemetry], float]:
        snapshot = ProcessSnapshot()
        uses = [job.run.use(snapshot) for job in jobs]
        return uses, context.gpus.nvml.telemetry(), time.monotonic()

    uses, telemetry, now = await trio.to_thread.run_sync(measure)
    return Answer(
        Usage(
            time=now,
            cpus=context.scheduler.inventory.cpus,
            memory=context.scheduler.inventory.mem,
            jobs=[_job_use(job, use) for job, use in zip(jobs, uses, strict=True)],
            gpus=_gpus(context, telemetry),
        )
    )


def _jobs(context: Context, request: Request) -> list[_Job]:
    """The running jobs that the caller may see and asks for. Raises what `Context.target` raises."""
    number = only_member = None
    if text := request.query.get("id"):
        target, row = context.target(request.peer, text)
        check_member(row.members, row.id, target.member)
        number, only_member = row.id, target.member
    return [
        _Job(experiment, member, run)
        for experiment in context.scheduler.experiments.values()
        if context.may(request.peer, experiment.row) and number in (None, experiment.number)
        for member, run in sorted(experiment.running.items())
        if only_member in (None, member)
    ]


def _job_use(job: _Job, use: Use) -> JobUse:
    experiment = job.experiment
    return JobUse(
        id=experiment_id(experiment.number, job.member),
        project=experiment.row.project,
        state=experiment.active.get(job.member, experiment.state),
        cpu_seconds=round(use.cpu_seconds, 3),
        memory=round(use.memory / (1 << 20), 1),
        processes=use.processes,
        gpus=list(job.run.gpus),
        requested_cpus=experiment.request.cpus,
        requested_memory=experiment.request.mem,
    )


def _gpus(context: Context, telemetry: Sequence[GpuTelemetry]) -> list[GpuUse]:
    return [
        GpuUse(
            index=gpu.index,
            name=gpu.name,
            util=reading.util,
            memory=reading.memory,
            total=gpu.memory,
            power=reading.power,
            temperature=reading.temperature,
            bus_id=gpu.bus_id,
        )
        for gpu, reading in zip(context.gpus.devices, telemetry, strict=True)
    ]
