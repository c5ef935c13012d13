"""Resource usage of running jobs, and telemetry of the GPUs."""

import time

import trio

from rised.api.context import Context
from rised.experiments.experiment import Experiment, RunningMember
from rised.http.request import Answer, Request
from rised.linux.processes import ProcessSnapshot
from rised.linux.usage import Use
from riseml_proto.ids import experiment_id
from riseml_proto.messages import GpuUse, JobUse, Usage

_Job = tuple[Experiment, int, RunningMember]
"""A member that runs."""


async def show(context: Context, request: Request) -> Answer:
    """Show what running jobs use (`Usage`): all of them, or those of `?id=144`."""
    jobs = _jobs(context, request)

    def measure() -> tuple[list[Use], list[GpuUse], float]:
        snapshot = ProcessSnapshot()
        uses = [run.use(snapshot) for _, _, run in jobs]
        return uses, context.gpus.nvml.telemetry(), time.monotonic()

    uses, gpus, now = await trio.to_thread.run_sync(measure)
    return Answer(
        Usage(
            time=now,
            cpus=context.scheduler.inventory.cpus,
            memory=context.scheduler.inventory.mem,
            jobs=[_job_use(*job, use) for job, use in zip(jobs, uses, strict=True)],
            gpus=gpus,
        )
    )


def _jobs(context: Context, request: Request) -> list[_Job]:
    """The running jobs that the caller may see and asks for. Raises what `Context.target` raises."""
    number = only_member = None
    if text := request.query.get("id"):
        target, row = context.target(request.peer, text)
        number, only_member = row.id, target.member
    return [
        (experiment, member, run)
        for experiment in context.scheduler.experiments.values()
        if context.may(request.peer, experiment.row) and number in (None, experiment.number)
        for member, run in sorted(experiment.running.items())
        if only_member in (None, member)
    ]


def _job_use(experiment: Experiment, member: int, run: RunningMember, use: Use) -> JobUse:
    return JobUse(
        id=experiment_id(experiment.number, member),
        project=experiment.row.project,
        state=experiment.active.get(member, experiment.state),
        cpu_seconds=round(use.cpu_seconds, 3),
        memory=round(use.memory / (1 << 20), 1),
        processes=use.processes,
        gpus=list(run.gpus),
        requested_cpus=experiment.request.cpus,
        requested_memory=experiment.request.mem,
    )
