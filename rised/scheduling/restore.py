"""What an earlier daemon left is taken up again, from what the database says."""

import json
import math
from collections.abc import Mapping

from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.policy.resources import Grant
from rised.scheduling.dispatch import Dispatcher
from rised.storage.rows import MemberRow
from riseml_proto.states import State


def restore_members(
    services: Services, dispatcher: Dispatcher, experiment: Experiment, frontier: int
) -> None:
    """Take up the members of an experiment; `frontier` is the one after the last that was ever started."""
    table, number = services.database.members, experiment.number
    # More may run than its concurrency allows now, since somebody has changed that.
    experiment.limiter.total_tokens = math.inf
    for member in table.unended(number):
        experiment.active[member.member] = member.state
        if member.state not in (State.PENDING, State.BUILDING):
            _resume(services, dispatcher, experiment, member)
        elif member.attempt or member.member < frontier:
            experiment.push(member.member)
    experiment.limiter.total_tokens = experiment.concurrency
    for overtaken in table.rowless(number, 1 if experiment.is_set else 0, frontier):
        experiment.push(overtaken)
    for later in table.between(number, frontier, experiment.row.members):
        if later.state.ended:
            experiment.skip(later.member)


def _resume(
    services: Services, dispatcher: Dispatcher, experiment: Experiment, row: MemberRow
) -> None:
    # What was killed with its experiment may have ended of that while nobody watched.
    row = row._replace(kill=max(row.kill, experiment.row.kill))
    uuids = services.gpu_uuids
    gpus = tuple(current_index(index, uuid, uuids) for index, uuid in json.loads(row.gpus))
    request = experiment.request
    dispatcher.resume(experiment, row, Grant(request.cpus, request.mem, gpus))


def current_index(index: int, uuid: str | None, uuids: Mapping[int, str | None]) -> int:
    """The index that a GPU has now; the driver may count differently since the last boot."""
    for now, known in uuids.items():
        if uuid is not None and known == uuid:
            return now
    return index
