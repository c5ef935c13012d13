"""Changing unfinished experiments: priority, concurrency, pause."""

from typing import Any

from rised.api.context import Context
from rised.experiments.experiment import Experiment
from rised.http.request import Answer, Request
from rised.log import log
from rised.scheduling.submission import check_priority
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Change, Changed, Standing


async def change(context: Context, request: Request) -> Answer:
    """Change the priority, the concurrency or the pause of unfinished experiments (`Change`, answered by `Changed`).

    Every ID is checked before anything is changed.
    """
    message = await request.message(Change)
    if message.priority is not None:
        check_priority(message.priority)
    if message.concurrency is not None and message.concurrency < 1:
        raise InvalidInput(f"concurrency: must be 1 or more, not {message.concurrency}")
    wishes = {
        "priority": message.priority,
        "concurrency": message.concurrency,
        "paused": message.paused,
    }
    facts: dict[str, Any] = {name: int(wish) for name, wish in wishes.items() if wish is not None}
    if not facts:
        raise InvalidInput("nothing is to be changed; name a priority, a concurrency or a pause")
    experiments = [_target(context, request, text, message) for text in message.ids]
    for experiment in experiments:
        row = experiment.row._replace(**facts)
        await context.scheduler.unfinished.change(experiment, row)
        log.info(
            "experiment changed",
            id=row.id,
            by=request.peer.user,
            priority=row.priority,
            concurrency=experiment.concurrency,
            paused=bool(row.paused),
        )
    standings = [
        Standing(
            id=str(experiment.row.id),
            priority=experiment.row.priority,
            concurrency=experiment.concurrency,
            paused=bool(experiment.row.paused),
        )
        for experiment in experiments
    ]
    return Answer(Changed(experiments=standings))


def _target(context: Context, request: Request, text: str, message: Change) -> Experiment:
    """The unfinished experiment that `text` names. Raises where `message` does not fit it."""
    target, row = context.target(request.peer, text)
    if target.member is not None or target.job is not None:
        raise InvalidInput(f"{text}: only a whole experiment can be changed; say {row.id}")
    experiment = context.scheduler.experiments.get(row.id)
    if experiment is None:
        raise InvalidInput(f"{row.id} has ended; nothing is left of it to change")
    if message.concurrency is not None and not experiment.is_set:
        raise InvalidInput(f"{row.id} has no sub-experiments; only a set has a concurrency")
    return experiment
