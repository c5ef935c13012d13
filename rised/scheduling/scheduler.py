"""The daemon's main loop: it decides who starts, whenever something has changed that may decide it."""

import math
from functools import partial

import trio

from rised.clock import now_ms
from rised.execution.image_build import ImageBuild
from rised.execution.images import Images
from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.gpus.monitor import GpuMonitor
from rised.log import log
from rised.policy.fair_order import fair_order
from rised.policy.outcome import KillMode
from rised.policy.workload import Waiting
from rised.scheduling.accounting import UsageAccounting
from rised.scheduling.dispatch import Dispatcher
from rised.scheduling.kill import Killer
from rised.scheduling.prelaunch import PrelaunchPool
from rised.scheduling.unfinished import Unfinished
from rised.storage.rows import BOARD, BUILD, MemberChange, MemberRow
from rised.tensorboard.manager import TensorBoards, is_installed
from riseml_proto import ids
from riseml_proto.config import parse_config
from riseml_proto.errors import StorageFull
from riseml_proto.states import State

_DRAINED = "drained"


class Scheduler:
    """Starts what waits as soon as the policy lets it."""

    def __init__(
        self,
        *,
        services: Services,
        images: Images,
        tensorboards: TensorBoards,
        gpus: GpuMonitor,
        accounting: UsageAccounting,
    ) -> None:
        self._services = services
        self._images = images
        self._tensorboards = tensorboards
        self._gpus = gpus
        self.accounting = accounting
        self.inventory = accounting.inventory
        self._stopping = False
        self.unfinished = Unfinished(services)
        self.experiments = self.unfinished.experiments
        self._prelaunches = PrelaunchPool(services, self.unfinished)
        self._dispatcher = Dispatcher(services, self.unfinished, accounting, self._prelaunches)
        self.killer = Killer(services, self.unfinished)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what an earlier daemon left. Then, until cancelled, again and again:

        1. ask the driver about the GPUs, if something waits for one and the last answer is old;
        2. dispatch what the policy starts now, and note what the others wait for;
        3. abandon the held jobs that nobody waits for any more;
        4. unless jobs are starting, which goes first, start the next ones as held jobs;
        5. wait until something changes: an experiment comes, a member ends, somebody kills one.

        The nursery holds every member that runs. At shutdown the jobs run on, but for held ones.
        """
        async with trio.open_nursery() as self.unfinished.nursery:
            self._restore()
            task_status.started()
            try:
                while True:
                    self.unfinished.changed = trio.Event()
                    waiting = await self._waiting_with_fresh_gpus()
                    self._dispatch(waiting)
                    self._prelaunches.abandon_unwanted()
                    if not self._dispatcher.check_starting():
                        self._prelaunch(waiting)
                    await self._wait_for_change(waiting)
            finally:
                await self._prelaunches.close()

    def _restore(self) -> None:
        """Take up every unfinished experiment, and end what belongs to none."""
        database, start = self._services.database, self.unfinished.nursery.start_soon
        self.accounting.drained = database.meta.get(_DRAINED)
        for row in database.experiments.unfinished():
            frontier = database.members.frontier(row.id, 1 if row.members else 0)
            experiment = Experiment(
                row, parse_config(row.config, row.config_file), frontier=frontier
            )
            self.add(experiment)
            self._dispatcher.restore(experiment, frontier)
            if row.kill and not experiment.building:
                experiment.skip_all()
                start(self.killer.kill_again, experiment, row.kill)
        for job in database.jobs.unended():
            if job.job == BOARD and job.experiment not in self.experiments:
                start(self._tensorboards.end, job)
        for revision in self._services.revisions.trees():
            start(self.unfinished.discard_tree, *revision)
        log.info(
            "unfinished experiments taken up",
            experiments=len(self.experiments),
            running=sum(len(experiment.running) for experiment in self.experiments.values()),
        )

    async def _waiting_with_fresh_gpus(self) -> list[Waiting]:
        waiting = self.unfinished.waiting()
        if self._gpus.is_stale and _wants_gpus(waiting):
            await self._gpus.refresh()
            waiting = self.unfinished.waiting()
        return waiting

    def _dispatch(self, waiting: list[Waiting]) -> None:
        if self._stopping:
            return
        decision = self.accounting.decide([entry for entry in waiting if entry.slots])
        self.unfinished.note_decision(decision)
        for number, count in decision.start.items():
            for _ in range(count):
                self._dispatcher.start(self.experiments[number])
        for number in decision.reasons:
            self._note_pending(number)

    def _note_pending(self, number: int) -> None:
        """Write once that the next member is PENDING."""
        state = self.unfinished.states[number]
        head = state.experiment.head
        if head is None or head == state.pending_member:
            return
        state.pending_member = head
        if self._services.database.members.get(number, head) is None:
            change = MemberChange(MemberRow(number, head, State.PENDING), now_ms())
            try:
                self._services.transitions.write(state.experiment, change)
            except StorageFull as error:  # its next state tells as much
                log.warning("cannot write that a job waits", error=str(error))

    def _prelaunch(self, waiting: list[Waiting]) -> None:
        if self.accounting.drained is None:
            unpaused = [entry for entry in waiting if not entry.paused]
            self._prelaunches.fill(fair_order(unpaused, self.accounting.snapshot(unpaused)))

    async def _wait_for_change(self, waiting: list[Waiting]) -> None:
        recheck = self._gpus.recheck_after if _wants_gpus(waiting) else math.inf
        with trio.move_on_after(recheck):
            await self.unfinished.changed.wait()

    async def stop_jobs(self) -> None:
        """Start nothing more, and kill what runs; return when nothing of it is left."""
        self._stopping = True
        for experiment in self.experiments.values():
            for run in list(experiment.running.values()):
                run.kill(KillMode.GRACEFUL)
        while any(experiment.running for experiment in self.experiments.values()):
            await self.unfinished.changed.wait()

    def add(self, experiment: Experiment) -> None:
        """Take in an experiment that is on disk: build its image, open its TensorBoard, let it wait for its turn."""
        self.unfinished.add(self.accounting.queue_state(experiment))
        if experiment.state is State.BUILDING:
            done = partial(self._built, experiment)
            experiment.building = ImageBuild(self._services, self._images, experiment, done)
            name = ids.job_id(experiment.number, 0, BUILD)
            self.unfinished.nursery.start_soon(experiment.building.run, name=name)
        if experiment.config.tensorboard and is_installed():
            self.unfinished.nursery.start_soon(self._tensorboards.serve_experiment, experiment)

    def _built(self, experiment: Experiment) -> None:
        self.unfinished.forget_if_done(experiment)
        self.unfinished.wake()

    async def drain(self, reason: str | None) -> None:
        """Start nothing new, for a reason that may be empty; None: start again. Raises `StorageFull`."""
        database = self._services.database
        with database.transaction():
            database.meta.save(_DRAINED, reason)
        self.accounting.drained = reason
        self.unfinished.wake()
        await database.sync()


def _wants_gpus(waiting: list[Waiting]) -> bool:
    return any(entry.request.gpus for entry in waiting)
