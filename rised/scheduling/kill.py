"""Kills: the wish is on disk before anything is done, and the answer comes when nothing is left."""

import trio

from rised.crashpoints import crash_point
from rised.execution.services import Services
from rised.experiments.experiment import Experiment, check_member
from rised.log import log
from rised.policy.outcome import KillMode
from rised.scheduling.unfinished import Unfinished
from riseml_proto.errors import NotFound, StorageFull

_RETRY_SECONDS = 1.0


class Killer:
    """Ends experiments and members of them."""

    def __init__(self, services: Services, unfinished: Unfinished) -> None:
        self._database = services.database
        self._transitions = services.transitions
        self._unfinished = unfinished

    async def kill(self, number: int, member: int | None, mode: KillMode) -> bool:
        """End an experiment, or one member of it; return when nothing of it is left.

        False: it had ended before. Raises `NotFound`, `StorageFull`.
        """
        row = self._database.experiments.get(number)
        if row is None:
            raise NotFound(f"there is no experiment {number}; riseml status -a lists all")
        check_member(row.members, number, member)
        experiment = self._unfinished.experiments.get(number)
        if experiment is None:
            return False
        if member is None or not experiment.is_set:
            await self._kill_all(experiment, mode)
            return True
        if member in experiment.running:
            await self._kill_running(experiment, member, mode)
            return True
        if not experiment.not_started(member):
            return False
        self._transitions.kill_waiting(experiment, member)
        self._unfinished.wake()
        await self._database.sync()
        self._unfinished.forget_if_done(experiment)
        return True

    async def _kill_all(self, experiment: Experiment, mode: KillMode) -> None:
        if experiment.building:
            self._transitions.mark_killed(experiment, mode)
            await self._flush()
        if experiment.building:  # the build ends the experiment when nothing of it is left
            experiment.building.kill(mode)
            await experiment.done.wait()
            return
        # It may have ended while its build was asked to end, or while a full disk had no room for the wish.
        if experiment.done.is_set():
            return
        self._transitions.kill_rest(experiment, mode)
        self._unfinished.wake()
        await self._flush()
        for run in list(experiment.running.values()):
            run.kill(mode)
        self._unfinished.forget_if_done(experiment)
        await experiment.done.wait()

    async def _kill_running(self, experiment: Experiment, member: int, mode: KillMode) -> None:
        run = experiment.running[member]
        done = experiment.member_done.setdefault(member, trio.Event())
        self._transitions.kill_running(experiment, member, mode)
        await self._flush()
        run.kill(mode)
        await done.wait()

    async def kill_again(self, experiment: Experiment, mode: KillMode) -> None:
        """Finish a kill that an earlier daemon did not finish, and wait for room on the disk if there is none.

        A member whose start had not been written down yet was not counted as killed either.
        """
        for run in experiment.running.values():
            run.kill(mode)
        while True:
            try:
                return await self._kill_all(experiment, mode)
            except StorageFull as error:
                log.error("cannot write that the rest is killed, trying again", error=str(error))
                await trio.sleep(_RETRY_SECONDS)

    async def _flush(self) -> None:
        await self._database.sync()
        crash_point("kill-recorded")
