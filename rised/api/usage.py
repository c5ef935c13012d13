"""Resource usage of running jobs, and telemetry of the GPUs."""

import time
from collections.abc import Sequence

import trio

from rised.api.context import Context
from rised.experiments.experiment import check_member
from rised.gpus.nvml import GpuTelemetry
from rised.http.request import Answer, Request
from rised.linux.processes import ProcessSnapshot
from rised.linux.usage import Use
from riseml_proto.ids import experiment_id
from riseml_proto.messages import GpuUse, JobUse, Usage


async def show(context: Context, request: Request) -> Answer:
    """Show what running jobs use (`Usage`): all of them, or those of `?id=144`."""
    wanted = None
    if text := request.query.get("id"):
        target, row = context.target(request.peer, text)
        check_member(row.members, row.id, target.member)
        wanted = row.id, target.member
    running = [
        (experiment, member, run)
        for experiment in context.scheduler.experiments.values()
        for member, run in sorted(experiment.running.items())
        if context.may(request.peer, experiment.row)
        and (wanted is None or (wanted[0] == experiment.number and wanted[1] in (None, member)))
    ]
    runs = [run for _, _, run in running]

    def measure() -> tuple[list[Use], list[GpuTelemetry], float]:
        snapshot = ProcessSnapshot()
        return (
            [run.use(snapshot) for run in runs],
            context.gpus.nvml.telemetry(),
            time.monotonic(),
        )

    uses, telemetry, now = await trio.to_thread.run_sync(measure)
    return Answer(
        Usage(
            time=now,
            cpus=context.scheduler.inventory.cpus,
            memory=context.scheduler.inventory.mem,
            jobs=[
                JobUse(
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
                for (experiment, member, run), use in zip(running, uses, strict=True)
            ],
            gpus=_gpus(context, telemetry),
        )
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
