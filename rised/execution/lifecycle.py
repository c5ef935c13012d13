"""The life of one sub-experiment, from the moment it is granted what it needs until nothing of it is left.

    PENDING, STARTING   one row, before anything is done
    start               log, output directory, working copy, a process that waits for leave
    RUNNING             with what finds the process again; flushed to disk, and only then may it begin
    wait                until it ends, a person kills it or its time is over
    settle              end what it left behind; its GPUs are free only after that
    the end             FINISHED, FAILED or KILLED; or PENDING and once more from the start, where retries are left

Each arrow can be cut by a crash; `resume` takes up from whatever row the crash left.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

import trio

from rised.clock import now_ms
from rised.crashpoints import crash_point
from rised.execution import launch
from rised.execution.launch import HeldJob, Prelaunch
from rised.execution.services import Services
from rised.experiments import results
from rised.experiments.experiment import Experiment
from rised.experiments.job_spec import visible_gpus
from rised.linux.processes import ProcessSnapshot
from rised.linux.usage import Use, measure
from rised.log import log
from rised.policy.outcome import KillMode
from rised.policy.resources import Grant
from rised.runners.base import Exit, Job, JobHandle
from rised.runners.identity import decode, encode
from rised.storage.owners import owner_of
from rised.storage.rows import MemberChange, MemberRow
from riseml_proto.errors import NoEngine, RisemlError, StorageFull
from riseml_proto.states import Reason, State, advance

# A job that cannot start because the disk is full, or the container engine away, is tried again: nobody tells when
# that has changed.
_RETRY_SECONDS = 5.0
_NO_SUCH_PROGRAM = 127
# What comes next goes first; tidying up after a job can wait so long.
_TIDY_SECONDS = 0.05


class Place(NamedTuple):
    """A sub-experiment's place among those that run."""

    begun: Callable[[MemberRow], None]
    """To be called when its job may run, with its row."""
    release: Callable[[], None]
    """Gives back what it was granted; to be called once."""
    calm: Callable[[], Awaitable[None]]
    """Returns when no job is on its way to begin."""


class Lifecycle:
    """One sub-experiment on its way."""

    def __init__(
        self,
        services: Services,
        experiment: Experiment,
        row: MemberRow,
        grant: Grant,
        ahead: Prelaunch | None,
        place: Place,
    ) -> None:
        """`row` is the database's, or a new one in state CREATED; `ahead` its job, if that was started already."""
        self._services = services
        self._experiment = experiment
        self._row = row
        self._grant = grant
        self._ahead = ahead
        self._place = place
        self._handle: JobHandle | None = None
        self._kill = row.kill
        self._unwritten: list[MemberChange] = []
        self._patience = trio.CancelScope()
        self._grace = trio.CancelScope()

    @property
    def gpus(self) -> tuple[int, ...]:
        """The indices of its GPUs."""
        return self._grant.gpus

    def use(self, snapshot: ProcessSnapshot) -> Use:
        """What its processes on this machine use now. Blocks for milliseconds: for another thread."""
        local = self._handle.local if self._handle else None
        return measure(local.pids(snapshot), local.cgroup) if local else Use()

    def kill(self, mode: KillMode) -> None:
        """Make it end; a second call by force cuts the grace period short."""
        self._kill = max(self._kill, mode)
        self._row = self._row._replace(kill=self._kill)
        self._unwritten[:] = [
            change._replace(row=change.row._replace(kill=self._kill)) for change in self._unwritten
        ]
        self._patience.cancel()
        if mode is KillMode.FORCE:
            self._grace.cancel()

    async def run(self) -> None:
        """Live it to its end."""
        again = await self._resume() if self._row.state is State.RUNNING else True
        while again:
            if self._kill:
                if held := await self._take_ahead():
                    await launch.abandon(self._services, held)
                await self._end(State.KILLED, Reason.KILLED, None, None)
                self._place.release()
                return
            again = await self._attempt()

    async def _resume(self) -> bool:
        """Take back what an earlier daemon started."""
        job = self._job()
        assert self._row.handle is not None
        handle = await self._services.runner.adopt(job, decode(self._row.handle))
        log.info("job adopted", job=job.id, attempt=job.attempt)
        self._place.begun(self._row)
        return await self._see_through(job, handle)

    async def _attempt(self) -> bool:
        """One attempt. Return whether there is to be another."""
        held = await self._take_ahead()
        if self._row.state is not State.PENDING:
            self._come_to(State.PENDING)
        self._come_to(
            State.STARTING,
            attempt=held.job.attempt if held else self._next_attempt(),
            gpus=_gpus(self._grant, self._services.gpu_uuids),
            handle=None,
        )
        try:
            held = held or await launch.start(
                self._services,
                self._experiment,
                self._row.member,
                self._row.attempt,
                self._grant,
                self._write,
            )
            launch.make_output(self._services, self._experiment, self._row.member)
        except (StorageFull, NoEngine) as error:
            await self._abandon(held)
            return await self._try_later(str(error))
        except (RisemlError, OSError) as error:
            await self._abandon(held)
            told = (
                f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            )
            await self._end(State.FAILED, Reason.START_FAILED, told, None)
            self._place.release()
            return False
        job, handle = held
        try:
            self._come_to(State.RUNNING, handle=encode(handle.identity), started_ms=now_ms())
            await self._write()
            await self._services.database.sync_start()
            crash_point("before-begin")
            if not self._kill:
                launch.tell_of_image(self._services, self._experiment, job)
                handle.begin(visible_gpus(self._grant))
            crash_point("after-begin")
        except BaseException:
            handle.close()
            raise
        self._place.begun(self._row)
        return await self._see_through(job, handle)

    async def _take_ahead(self) -> HeldJob | None:
        ahead, self._ahead = self._ahead, None
        return await ahead.take() if ahead else None

    def _next_attempt(self) -> int:
        return launch.next_attempt(
            self._services, self._experiment, self._row.member, self._row.attempt
        )

    async def _abandon(self, held: HeldJob | None) -> None:
        if held:
            await launch.abandon(self._services, held)
        else:
            await self._services.runner.clean(self._job())

    def _come_to(
        self, state: State, message: str | None = None, *, ran: int | None = None, **facts: object
    ) -> None:
        """Change the state, which is written together with what else changes before the next `_write`.

        `ran` is since when the attempt ran that this ends, if it is to be charged.
        """
        self._row = self._row._replace(state=advance(self._row.state, state), **facts)  # type: ignore[arg-type]
        self._unwritten.append(MemberChange(self._row, now_ms(), message, ran))

    async def _write(self) -> None:
        await self._services.transitions.write_surely(self._experiment, self._unwritten)
        self._unwritten.clear()

    def _job(self) -> Job:
        return launch.job(self._services, self._experiment, self._row.member, self._row.attempt)

    async def _see_through(self, job: Job, handle: JobHandle) -> bool:
        """Watch a started job until nothing of it is left. Return whether there is to be another attempt."""
        services = self._services
        notify = partial(services.subscriptions.notify, self._experiment.number, self._row.member)
        watch = services.watcher.add(job.log, notify)
        self._handle = handle
        try:
            how, over = await self._wait(handle)
            crash_point("before-settle")
            await self._with_grace(handle.settle)
        finally:
            self._handle = None
            watch.close()
            handle.close()
        crash_point("before-end")
        again = await self._conclude(job, how, over)
        crash_point("after-end")
        if not again:
            self._place.release()
        crash_point("before-clean")
        with trio.move_on_after(_TIDY_SECONDS):
            await self._place.calm()
        await services.runner.clean(job)
        return again

    async def _wait(self, handle: JobHandle) -> tuple[Exit, bool]:
        """Return how it ended, and whether its time was over."""
        with self._until_killed() as scope:
            limit, started = self._experiment.config.time_limit, self._row.started_ms
            if limit is not None and started is not None:
                scope.deadline = trio.current_time() + limit - (now_ms() - started) / 1000
            return await handle.wait(), False
        over = not self._kill
        await self._with_grace(handle.kill)
        return await handle.wait(), over

    def _until_killed(self) -> trio.CancelScope:
        """A scope that a kill cancels, at once if there was one."""
        self._patience = trio.CancelScope()
        if self._kill:
            self._patience.cancel()
        return self._patience

    async def _with_grace(self, end: Callable[[float], Awaitable[None]]) -> None:
        """Call `end` with the seconds of grace that there are; a kill by force meanwhile cuts them off."""
        if self._kill is not KillMode.FORCE:
            with trio.CancelScope() as self._grace:
                return await end(self._services.kill_grace)
        return await end(0)

    async def _conclude(self, job: Job, how: Exit, over: bool) -> bool:
        ran = self._row.started_ms if how.begun else None
        if self._kill:
            await self._end(State.KILLED, Reason.KILLED, None, how.code, ran)
            return False
        if not how.begun and how.code is None:
            # The daemon that started it died before it gave leave: nothing has happened yet.
            self._come_to(State.PENDING, handle=None, started_ms=None)
            await self._write()
            return True
        if not how.begun:
            told = f"its shell could not begin (exit code {how.code}); its log may say why"
            if job.container and how.code == _NO_SUCH_PROGRAM:
                told = f"the image {self._experiment.config.image} has no /bin/sh"
            await self._end(State.FAILED, Reason.START_FAILED, told, None)
            return False
        told = f"Command '{'; '.join(job.commands)}' return code: {how.code}"
        if over:
            limit = self._experiment.config.time_limit
            state, reason, told = State.FAILED, Reason.TIME_LIMIT, f"ran longer than {limit:g} s"
        elif how.code is None:
            state, reason = State.FAILED, Reason.LOST
            told = "the job ended while nobody watched, and left no exit code"
            ran = None  # nobody knows for how long
        elif how.code == 0:
            state, reason = State.FINISHED, Reason.COMPLETED
        else:
            state, reason = State.FAILED, Reason.ERROR
        if state is State.FAILED and self._row.failures < self._experiment.config.retries:
            failed = f"attempt {self._row.attempt} failed: {told}"
            failures = self._row.failures + 1
            self._come_to(State.PENDING, failed, ran=ran, handle=None, failures=failures)
            await self._write()
            return True
        await self._end(state, reason, told, how.code, ran)
        return False

    async def _try_later(self, message: str) -> bool:
        self._come_to(State.PENDING, message, handle=None)
        await self._write()
        log.warning("start put off", job=self._job().id, why=message)
        with self._until_killed():
            await trio.sleep(_RETRY_SECONDS)
        return True

    def _results(self) -> str | None:
        row = self._experiment.row
        found = results.read(self._services.layout.output(row, self._row.member), owner_of(row))
        return json.dumps(found) if found else None

    async def _end(
        self,
        state: State,
        reason: Reason,
        message: str | None,
        code: int | None,
        ran: int | None = None,
    ) -> None:
        ended_ms = max(now_ms(), self._row.started_ms or 0)
        reported = self._results() if self._row.started_ms else None
        facts = {"reason": reason, "exit_code": code, "ended_ms": ended_ms, "results": reported}
        self._come_to(state, message, ran=ran, **facts)
        await self._write()


def _gpus(grant: Grant, uuids: Mapping[int, str | None]) -> str:
    return json.dumps([[index, uuids.get(index)] for index in grant.gpus])
