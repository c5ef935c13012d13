"""The daemon's main loop: whenever something has changed, ask the queue who starts now, and start them.

Something has changed when an experiment came, a sub-experiment ended, a person killed one. Nothing is looked at in
between. One nursery holds every sub-experiment that runs; leaving it (shutdown) lets go of the jobs without touching
them.
"""

import json
import math
from functools import partial

import trio

from rised.clock import now_ms
from rised.crashpoints import crash_point
from rised.execution import launch
from rised.execution.image_build import Building
from rised.execution.images import Images
from rised.execution.launch import Prelaunch
from rised.execution.lifecycle import Lifecycle, SlotCallbacks
from rised.execution.services import Services
from rised.experiments.experiment import Experiment, check_member
from rised.gpus.monitor import GpuMonitor
from rised.log import log
from rised.policy.outcome import KillMode
from rised.policy.resources import Grant, Inventory
from rised.policy.workload import Waiting
from rised.scheduling.accounting import UsageAccounting
from rised.storage.database import BOARD, BUILD
from rised.storage.rows import ExperimentRow, MemberChange, MemberRow
from rised.tensorboard.manager import TensorBoards, is_installed
from riseml_proto import ids
from riseml_proto.errors import NotFound, RisemlError, StorageFull
from riseml_proto.states import State
from riseml_proto.waiting import WaitReason

_RETRY_SECONDS = 1.0
_STOP_SECONDS = 2.0
_DRAINED = "drained"
_MOST_AHEAD = 4
"""Jobs that are started ahead of their turn at any time; each costs a waiting shell and a working copy."""


class Scheduler:
    """All unfinished experiments, and what they hold."""

    def __init__(
        self,
        *,
        services: Services,
        images: Images,
        tensorboards: TensorBoards,
        inventory: Inventory,
        gpus: GpuMonitor,
        turns: UsageAccounting,
    ) -> None:
        """Nothing starts before `run`."""
        self._images = images
        self._tensorboards = tensorboards
        self._database = services.database
        self._transitions = services.transitions
        self._services = services
        self.inventory = inventory
        self._gpus = gpus
        self.turns = turns
        self.experiments: dict[int, Experiment] = {}
        self._stopping = False
        self._changed = trio.Event()
        self._calm = trio.Event()
        self._starting: set[tuple[int, int]] = set()
        self._ahead: dict[tuple[int, int], Prelaunch] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up what an earlier daemon left, then start whatever may start, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.turns.drained = self._database.meta(_DRAINED)
            self._restore()
            task_status.started()
            try:
                while True:
                    self._changed = trio.Event()
                    waiting = [e.waiting() for e in self.experiments.values() if e.remaining]
                    wants_gpus = any(entry.request.gpus for entry in waiting)
                    if wants_gpus and self._gpus.is_stale:
                        await self._gpus.refresh()
                        waiting = [e.waiting() for e in self.experiments.values() if e.remaining]
                    self._start_what_may(waiting)
                    if not self._starting:  # those go first
                        self._calm.set()
                        self._start_ahead(waiting)
                    with trio.move_on_after(self._gpus.recheck_after if wants_gpus else math.inf):
                        await self._changed.wait()
            finally:
                with trio.move_on_after(_STOP_SECONDS, shield=True):
                    for ahead in self._ahead.values():
                        await ahead.drop()

    async def stop_jobs(self) -> None:
        """Start nothing more, and kill what runs; return when nothing of it is left."""
        self._stopping = True
        runs = [run for e in self.experiments.values() for run in e.running.values()]
        for run in runs:
            run.kill(KillMode.GRACEFUL)
        while any(experiment.running for experiment in self.experiments.values()):
            await self._changed.wait()

    def look_again(self) -> None:
        """Something has changed that decides who starts."""
        self._changed.set()

    def add(self, experiment: Experiment) -> None:
        """Take in one that is on disk."""
        self.turns.take_in(experiment)
        self.experiments[experiment.number] = experiment
        if experiment.state is State.BUILDING:
            self._build(experiment)
        self._open_board(experiment)
        self._changed.set()

    async def change(self, experiment: Experiment, row: ExperimentRow) -> None:
        """Let an unfinished experiment go on with priority, pause and concurrency of `row`. Raises `StorageFull`."""
        self._transitions.change(experiment, row)
        if row.paused:
            self._drop_ahead(row.id)
        if not experiment.building:
            experiment.wait_reason = None
        self._changed.set()
        await self._database.sync()

    async def drain(self, reason: str | None) -> None:
        """Start nothing new, for a reason that may be empty; None: start again. Raises `StorageFull`."""
        with self._database.transaction():
            self._database.put_meta(_DRAINED, reason)
        self.turns.drained = reason
        self._changed.set()
        await self._database.sync()

    def _open_board(self, experiment: Experiment) -> None:
        if experiment.config.tensorboard and is_installed():
            assert self._nursery is not None
            self._nursery.start_soon(self._tensorboards.serve_experiment, experiment)

    def _build(self, experiment: Experiment) -> None:
        building = Building(
            self._services, self._images, experiment, partial(self._built, experiment)
        )
        experiment.building = building
        assert self._nursery is not None
        self._nursery.start_soon(building.run, name=ids.job_id(experiment.number, 0, BUILD))

    def _built(self, experiment: Experiment) -> None:
        if experiment.done.is_set():
            self._forget(experiment)
        self._changed.set()

    def _start_what_may(self, waiting: list[Waiting]) -> None:
        if self._stopping:
            return
        decision = self.turns.decide([entry for entry in waiting if entry.slots])
        for number, count in decision.start.items():
            experiment = self.experiments[number]
            experiment.wait_reason = None
            for _ in range(count):
                self._start(experiment)
        for number, reason in decision.reasons.items():
            self._note_waiting(self.experiments[number], reason)

    def _start(self, experiment: Experiment) -> None:
        member = experiment.pop()
        row = self._database.member(experiment.number, member)
        row = row or MemberRow(experiment.number, member, State.CREATED)
        grant = self.inventory.take((experiment.number, member), experiment.request)
        self._live(experiment, row, grant)

    def _start_ahead(self, waiting: list[Waiting]) -> None:
        """Start the jobs that will be next as soon as a place is free, held back."""
        if self.turns.drained is not None:
            return
        assert self._nursery is not None
        first = True
        for entry in self.turns.order([entry for entry in waiting if not entry.paused]):
            experiment = self.experiments[entry.experiment]
            member = experiment.next_untouched
            if member is None or not (experiment.running or experiment.wait_reason):
                continue
            key = experiment.number, member
            if key not in self._ahead:
                made = launch.job(self._services, experiment, member, 0)
                if not self._services.runner.starts_ahead(made, experiment.request.gpus):
                    continue
                if len(self._ahead) >= _MOST_AHEAD:
                    if not first:
                        return
                    self._drop_ahead(*next(reversed(self._ahead)))
                ahead = self._ahead[key] = Prelaunch(self._services, experiment, member)
                self._nursery.start_soon(ahead.run)
            elif len(self._ahead) >= _MOST_AHEAD:
                return
            first = False

    def _drop_ahead(self, number: int, member: int | None = None) -> None:
        """End what was started ahead of an experiment, or of one member of it, whose turn will not come."""
        assert self._nursery is not None
        for key in [k for k in self._ahead if k[0] == number and member in (None, k[1])]:
            self._nursery.start_soon(self._ahead.pop(key).drop)

    def _live(self, experiment: Experiment, row: MemberRow, grant: Grant) -> None:
        key = (experiment.number, row.member)
        experiment.limiter.acquire_on_behalf_of_nowait(key)
        self._starting.add(key)
        self.turns.granted(key, experiment, row, grant)
        slot = SlotCallbacks(
            partial(self._begun, key), partial(self._release, key), self._wait_for_calm
        )
        ahead = self._ahead.pop(key, None)
        life = Lifecycle(
            self._services, experiment, row, grant, slot, ahead.take if ahead else None
        )
        experiment.running[row.member] = life
        assert self._nursery is not None
        self._nursery.start_soon(life.run, name=ids.experiment_id(*key))

    def _begun(self, key: tuple[int, int], row: MemberRow) -> None:
        self._starting.discard(key)
        self.turns.began(key, row)
        self._changed.set()

    def _release(self, key: tuple[int, int]) -> None:
        self._starting.discard(key)
        experiment = self.experiments[key[0]]
        del experiment.running[key[1]]
        self.inventory.give_back(key)
        self.turns.ended(key)
        if not experiment.slots:
            experiment.eligible_since = trio.current_time()
        experiment.limiter.release_on_behalf_of(key)
        if experiment.done.is_set():
            self._forget(experiment)
        self._changed.set()
        if self._calm.is_set():
            self._calm = trio.Event()

    async def _wait_for_calm(self) -> None:
        await self._calm.wait()

    def _note_waiting(self, experiment: Experiment, reason: WaitReason) -> None:
        experiment.wait_reason = reason
        head = experiment.head
        if head is None or head == experiment.noted:
            return
        experiment.noted = head
        if self._database.member(experiment.number, head) is None:
            try:
                row = MemberRow(experiment.number, head, State.PENDING)
                self._transitions.write(experiment, MemberChange(row, now_ms()))
            except StorageFull as error:  # its next state tells as much
                log.warning("cannot write that a job waits", error=str(error))

    def _forget(self, experiment: Experiment) -> None:
        """Drop an experiment that has ended, if nobody has yet: its last member's end and a kill may both come here."""
        if self.experiments.pop(experiment.number, None) is None:
            return
        if experiment.building:
            experiment.building.kill(KillMode.FORCE)
        self._drop_ahead(experiment.number)
        row = experiment.row
        assert self._nursery is not None
        self._nursery.start_soon(self._discard, row.user, row.project, row.revision)

    async def _discard(self, user: str, project: str, revision: str) -> None:
        """Remove the pristine tree of a revision unless an unfinished experiment uses it."""

        def wanted() -> bool:
            rows = (experiment.row for experiment in self.experiments.values())
            return (user, project, revision) in ((r.user, r.project, r.revision) for r in rows)

        try:
            await self._services.revisions.discard(user, project, revision, wanted)
        except (RisemlError, OSError) as error:
            log.warning("cannot remove a tree", revision=revision, error=str(error))

    async def kill(self, number: int, member: int | None, mode: KillMode) -> bool:
        """End an experiment, or one member of it; return when nothing of it is left.

        False if it had ended before. The wish is on disk before anything is done. Raises `NotFound`, `StorageFull`.
        """
        row = self._database.experiment(number)
        if row is None:
            raise NotFound(f"there is no experiment {number}; riseml status -a lists all")
        check_member(row.members, number, member)
        experiment = self.experiments.get(number)
        if experiment is None:
            return False
        if member is None or not experiment.is_set:
            await self._kill_all(experiment, mode)
            return True
        return await self._kill_member(experiment, member, mode)

    async def _kill_all(self, experiment: Experiment, mode: KillMode) -> None:
        if experiment.building:
            self._transitions.mark_killed(experiment, mode)
            await self._flush_kill()
        if experiment.building:  # it ends the experiment when nothing of it is left
            experiment.building.kill(mode)
            await experiment.done.wait()
            return
        # Ended by itself, while its build was asked to end or a full disk had no room for the wish.
        if experiment.done.is_set():
            return
        self._transitions.kill_rest(experiment, mode)
        self._drop_ahead(experiment.number)
        await self._flush_kill()
        for run in list(experiment.running.values()):
            run.kill(mode)
        if experiment.done.is_set():
            self._forget(experiment)
            self._changed.set()
        await experiment.done.wait()

    async def _flush_kill(self) -> None:
        await self._database.sync()
        crash_point("kill-recorded")

    async def _kill_member(self, experiment: Experiment, member: int, mode: KillMode) -> bool:
        if run := experiment.running.get(member):
            done = experiment.member_done.setdefault(member, trio.Event())
            self._transitions.kill_running(experiment, member, mode)
            await self._flush_kill()
            run.kill(mode)
            await done.wait()
            return True
        if not experiment.not_started(member):
            return False
        self._transitions.kill_waiting(experiment, member)
        self._drop_ahead(experiment.number, member)
        await self._database.sync()
        if experiment.done.is_set():
            self._forget(experiment)
        self._changed.set()
        return True

    def _restore(self) -> None:
        """Take up every unfinished experiment from what the database says."""
        assert self._nursery is not None
        for row in self._database.unfinished():
            first = 1 if row.members else 0
            frontier = self._database.frontier(row.id, first)
            experiment = Experiment.load(row, frontier=frontier)
            self.turns.take_in(experiment)
            # More may run than it lets start now, since somebody has changed that.
            experiment.limiter.total_tokens = math.inf
            self.experiments[row.id] = experiment
            if row.state is State.BUILDING:
                self._build(experiment)
            self._open_board(experiment)
            for member in self._database.unended_members(row.id):
                experiment.active[member.member] = member.state
                self._restore_member(experiment, member, frontier)
            experiment.limiter.total_tokens = experiment.concurrency
            for overtaken in self._database.rowless(row.id, first, frontier):
                experiment.push(overtaken)
            for ahead in self._database.members(row.id, frontier, row.members):
                if ahead.state.ended:
                    experiment.skip(ahead.member)
            if row.kill and not experiment.building:
                experiment.skip_all()
                self._nursery.start_soon(self._kill_again, experiment, row.kill)
        for job in self._database.unended_jobs():
            if job.job == BOARD and job.experiment not in self.experiments:
                self._nursery.start_soon(self._tensorboards.end, job)
        for revision in self._services.revisions.trees():
            self._nursery.start_soon(self._discard, *revision)
        log.info(
            "unfinished experiments taken up",
            experiments=len(self.experiments),
            running=sum(len(e.running) for e in self.experiments.values()),
        )

    async def _kill_again(self, experiment: Experiment, mode: KillMode) -> None:
        """Kill what was killed: a member whose start had not been written down yet was not counted as killed either."""
        for run in experiment.running.values():
            run.kill(mode)
        while True:
            try:
                return await self._kill_all(experiment, mode)
            except StorageFull as error:
                log.error("cannot write that the rest is killed, trying again", error=str(error))
                await trio.sleep(_RETRY_SECONDS)

    def _restore_member(self, experiment: Experiment, row: MemberRow, frontier: int) -> None:
        key = (experiment.number, row.member)
        if row.state in (State.PENDING, State.BUILDING):
            if row.attempt or row.member < frontier:
                experiment.push(row.member)
            return
        held = tuple(self._index(index, uuid) for index, uuid in json.loads(row.gpus))
        request = experiment.request
        grant = self.inventory.hold(key, Grant(request.cpus, request.mem, held))
        self._live(experiment, row, grant)

    def _index(self, index: int, uuid: str | None) -> int:
        """The index that a GPU has now; the driver may count differently since the last boot."""
        for now, known in self._services.gpu_uuids.items():
            if uuid is not None and known == uuid:
                return now
        return index
