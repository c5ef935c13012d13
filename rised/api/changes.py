"""Letting experiments go on in another way: priority, concurrency, pause."""

from rised.api.context import Context
from rised.experiments.experiment import Experiment
from rised.http.request import Answer, Request
from rised.log import log
from rised.scheduling.submission import check_priority
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Change, Changed, Standing


async def change(context: Context, request: Request) -> Answer:
    """Change what experiments that have not ended are to go on with (`Change`, answered by `Changed`).

    All IDs are understood before anything is changed.
    """
    asked = await request.message(Change)
    if asked.priority is not None:
        check_priority(asked.priority)
    if asked.concurrency is not None and asked.concurrency < 1:
        raise InvalidInput(f"concurrency: must be 1 or more, not {asked.concurrency}")
    if (asked.priority, asked.concurrency, asked.paused) == (None, None, None):
        raise InvalidInput("nothing is to be changed; name a priority, a concurrency or a pause")
    found = [_target(context, request, text, asked) for text in asked.ids]
    for experiment in found:
        row = experiment.row
        if asked.priority is not None:
            row = row._replace(priority=asked.priority)
        if asked.concurrency is not None:
            row = row._replace(concurrency=asked.concurrency)
        if asked.paused is not None:
            row = row._replace(paused=int(asked.paused))
        await context.scheduler.change(experiment, row)
        log.info(
            "experiment changed",
            id=row.id,
            by=request.peer.user,
            priority=row.priority,
            concurrency=experiment.concurrency,
            paused=bool(row.paused),
        )
    return Answer(Changed(experiments=[_standing(experiment) for experiment in found]))


def _target(context: Context, request: Request, text: str, asked: Change) -> Experiment:
    found, row = context.target(request.peer, text)
    if found.member is not None or found.job is not None:
        raise InvalidInput(f"{text}: only a whole experiment can be changed; say {row.id}")
    experiment = context.scheduler.experiments.get(row.id)
    if experiment is None:
        raise InvalidInput(f"{row.id} has ended; nothing is left of it to change")
    if asked.concurrency is not None and not experiment.is_set:
        raise InvalidInput(f"{row.id} has no sub-experiments; only a set has a concurrency")
    return experiment


def _standing(experiment: Experiment) -> Standing:
    row = experiment.row
    return Standing(
        id=str(row.id),
        priority=row.priority,
        concurrency=experiment.concurrency,
        paused=bool(row.paused),
    )
