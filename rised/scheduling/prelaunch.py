"""The jobs that are started ahead of their turn and held, so that a free slot is filled within milliseconds."""

from collections.abc import Awaitable, Callable, Iterable

import trio

from rised.execution import launch
from rised.execution.launch import HeldJob
from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.log import log
from rised.policy.workload import Waiting
from rised.scheduling.unfinished import Key, Unfinished
from riseml_proto.errors import RisemlError, StorageFull

_MAX_PRELAUNCHED = 4
"""Each costs a held shell and a working copy."""
_STOP_SECONDS = 2.0


class PrelaunchPool:
    """The held jobs of the members that are next."""

    def __init__(self, services: Services, unfinished: Unfinished) -> None:
        self._services = services
        self._unfinished = unfinished
        self._held: dict[Key, Prelaunch] = {}

    def take(self, key: Key) -> Callable[[], Awaitable[HeldJob | None]] | None:
        """What gives the held job of a member whose turn has come; None if there is no such job."""
        prelaunch = self._held.pop(key, None)
        return prelaunch.take if prelaunch else None

    def abandon_unwanted(self) -> None:
        """End the jobs of members that will not start: they were killed, or their experiment ended or is paused."""
        for key in [key for key in self._held if not self._is_wanted(*key)]:
            self._abandon(key)

    def _is_wanted(self, number: int, member: int) -> bool:
        experiment = self._unfinished.experiments.get(number)
        return (
            experiment is not None and not experiment.row.paused and experiment.not_started(member)
        )

    def fill(self, order: Iterable[Waiting]) -> None:
        """Start the jobs that come first in `order` as held jobs, as many as there is room for."""
        if self._services.start_gate.is_short:
            return
        is_first = True
        for entry in order:
            experiment = self._unfinished.experiments[entry.experiment]
            member = experiment.next_untouched
            waits = experiment.running or self._unfinished.wait_reason(entry.experiment)
            if member is None or not waits:
                continue
            key = experiment.number, member
            is_full = len(self._held) >= _MAX_PRELAUNCHED
            if key not in self._held:
                job = launch.member_job(self._services, experiment, member, 0)
                if not self._services.runner.starts_ahead(job, experiment.request.gpus):
                    continue
                if is_full:
                    if not is_first:
                        return
                    self._abandon(next(reversed(self._held)))
                self._held[key] = Prelaunch(self._services, experiment, member)
                self._unfinished.nursery.start_soon(self._held[key].run)
            elif is_full:
                return
            is_first = False

    def _abandon(self, key: Key) -> None:
        self._unfinished.nursery.start_soon(self._held.pop(key).drop)

    async def close(self) -> None:
        """End all held jobs, also while the scheduler is being cancelled."""
        with trio.move_on_after(_STOP_SECONDS, shield=True):
            for prelaunch in self._held.values():
                await prelaunch.drop()


class Prelaunch:
    """A member's job that is started ahead of its turn.

    Nobody needs to know of it: nothing is written down, and if the daemon dies, the held job ends.
    """

    def __init__(self, services: Services, experiment: Experiment, member: int) -> None:
        self._services = services
        self._experiment = experiment
        self._member = member
        self._held: HeldJob | None = None
        self._done = trio.Event()
        self._unwanted = False

    async def run(self) -> None:
        """Start it. What goes wrong will go wrong again when its turn comes, and is reported then."""
        services, experiment, member = self._services, self._experiment, self._member
        attempt = launch.next_attempt(services, experiment, member, 0)
        try:
            if not services.has_room():
                raise StorageFull("the disk is nearly full")
            self._held = await launch.start(services, experiment, member, attempt)
        except (RisemlError, OSError) as error:
            log.info("not started ahead", experiment=experiment.number, why=str(error))
            await services.runner.clean(launch.member_job(services, experiment, member, attempt))
        finally:
            self._done.set()
        if self._unwanted:
            await self.drop()

    async def take(self) -> HeldJob | None:
        """The job, now the caller's; None where it could not be started, or somebody has ended it since."""
        await self._done.wait()
        held, self._held = self._held, None
        if held and not held.handle.is_held:
            await launch.abandon(self._services, held)
            return None
        return held

    async def drop(self) -> None:
        """Its turn will not come."""
        self._unwanted = True
        if self._held:
            held, self._held = self._held, None
            await launch.abandon(self._services, held)
