"""The queue: who starts next, and when that is expected. Every user may see all of it."""

from datetime import timedelta

import trio

from rised.api.context import Context
from rised.clock import now_ms, to_datetime
from rised.experiments.experiment import Experiment
from rised.http.request import Answer, Request
from rised.scheduling.scheduler import Scheduler
from riseml_proto import messages
from riseml_proto.waiting import Paused, SlotsTaken, WaitReason, sentence


async def show(context: Context, request: Request) -> Answer:
    """Show every experiment that waits, in the order in which they start (`Queue`)."""
    scheduler, now = context.scheduler, to_datetime(now_ms())
    expected = await trio.to_thread.run_sync(
        scheduler.accounting.forecast(scheduler.unfinished.states.values())
    )
    entries: list[messages.Queued] = []
    for number, seconds in expected.items():
        experiment = scheduler.experiments.get(number)
        if experiment is None or not experiment.remaining:  # all of it has started meanwhile
            continue
        row, reason = experiment.row, _wait_reason(scheduler, experiment)
        own = row.uid == request.peer.uid
        entries.append(
            messages.Queued(
                position=len(entries) + 1,
                id=str(number),
                user=row.user,
                project=row.project,
                priority=row.priority,
                gpus=experiment.request.gpus,
                left=experiment.remaining,
                expected=None if seconds is None else now + timedelta(seconds=seconds),
                why=None if reason is None else sentence(reason, own=own),
                waits_for=reason,
            )
        )
    return Answer(messages.Queue(drained=scheduler.accounting.drained, experiments=entries))


def _wait_reason(scheduler: Scheduler, experiment: Experiment) -> WaitReason | None:
    if experiment.row.paused:
        return Paused(experiment.number)
    if experiment.running and not experiment.slots:
        return SlotsTaken(experiment.concurrency)
    return scheduler.unfinished.wait_reason(experiment.number)
