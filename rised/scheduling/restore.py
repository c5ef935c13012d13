"""What an earlier daemon left is taken up again, from what the database says."""

import json
import math
from collections.abc import Callable, Mapping

from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.log import log
from rised.policy.resources import Grant
from rised.scheduling.dispatch import Dispatcher
from rised.scheduling.kill import Killer
from rised.scheduling.unfinished import Tasks, Unfinished
from rised.storage.rows import BOARD, ExperimentRow, MemberRow
from rised.tensorboard.manager import TensorBoards
from riseml_proto.states import State


class Restorer:
    """Takes up unfinished experiments, once."""

    def __init__(
        self,
        *,
        services: Services,
        unfinished: Unfinished,
        dispatcher: Dispatcher,
        killer: Killer,
        tensorboards: TensorBoards,
        tasks: Tasks,
        add: Callable[[Experiment], None],
    ) -> None:
        """`add` takes in one experiment as if it had just been submitted."""
        self._services = services
        self._database = services.database
        self._unfinished = unfinished
        self._dispatcher = dispatcher
        self._killer = killer
        self._tensorboards = tensorboards
        self._tasks = tasks
        self._add = add

    def restore(self) -> None:
        """Take up every unfinished experiment, and end what belongs to none."""
        for row in self._database.experiments.unfinished():
            self._restore_experiment(row)
        experiments = self._unfinished.experiments
        for job in self._database.jobs.unended():
            if job.job == BOARD and job.experiment not in experiments:
                self._tasks.start(self._tensorboards.end, job)
        for revision in self._services.revisions.trees():
            self._tasks.start(self._unfinished.discard_tree, *revision)
        log.info(
            "unfinished experiments taken up",
            experiments=len(experiments),
            running=sum(len(experiment.running) for experiment in experiments.values()),
        )

    def _restore_experiment(self, row: ExperimentRow) -> None:
        first = 1 if row.members else 0
        frontier = self._database.members.frontier(row.id, first)
        experiment = Experiment.load(row, frontier=frontier)
        self._add(experiment)
        # More may run than its concurrency allows now, since somebody has changed that.
        experiment.limiter.total_tokens = math.inf
        for member in self._database.members.unended(row.id):
            experiment.active[member.member] = member.state
            self._restore_member(experiment, member, frontier)
        experiment.limiter.total_tokens = experiment.concurrency
        for overtaken in self._database.members.rowless(row.id, first, frontier):
            experiment.push(overtaken)
        for later in self._database.members.between(row.id, frontier, row.members):
            if later.state.ended:
                experiment.skip(later.member)
        if row.kill and not experiment.building:
            experiment.skip_all()
            self._tasks.start(self._killer.kill_again, experiment, row.kill)

    def _restore_member(self, experiment: Experiment, row: MemberRow, frontier: int) -> None:
        if row.state in (State.PENDING, State.BUILDING):
            if row.attempt or row.member < frontier:
                experiment.push(row.member)
            return
        # What was killed with its experiment may have ended of that while nobody watched.
        row = row._replace(kill=max(row.kill, experiment.row.kill))
        uuids = self._services.gpu_uuids
        gpus = tuple(current_index(index, uuid, uuids) for index, uuid in json.loads(row.gpus))
        request = experiment.request
        self._dispatcher.resume(experiment, row, Grant(request.cpus, request.mem, gpus))


def current_index(index: int, uuid: str | None, uuids: Mapping[int, str | None]) -> int:
    """The index that a GPU has now; the driver may count differently since the last boot."""
    for now, known in uuids.items():
        if uuid is not None and known == uuid:
            return now
    return index
