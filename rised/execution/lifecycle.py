"""The life of one sub-experiment, from the moment it is granted what it needs until nothing of it is left.

    PENDING, STARTING   one row, before anything is done
    start               log, output directory, working copy, a process that waits for the start signal
    RUNNING             with the identity of the job; flushed to disk, and only then may the job begin
    wait                until it ends, a person kills it or its time is over
    settle              end what it left behind; its GPUs are free only after that
    the end             FINISHED, FAILED or KILLED; or PENDING and once more from the start (`policy.outcome`)

Each arrow can be cut by a crash; `_adopt` takes up from whatever row the crash left.
"""

import json
import math
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import trio

from rised.clock import now_ms
from rised.crashpoints import crash_point
from rised.execution import launch
from rised.execution.kill_switch import KillSwitch
from rised.execution.launch import HeldJob
from rised.execution.services import Services
from rised.experiments import results
from rised.experiments.experiment import Experiment
from rised.experiments.job_spec import visible_gpus
from rised.experiments.transitions import until_room
from rised.linux.processes import ProcessSnapshot
from rised.linux.usage import Use, measure
from rised.log import log
from rised.policy import shortage
from rised.policy.outcome import NO_SUCH_PROGRAM, AttemptEnd, KillMode, outcome
from rised.policy.resources import Grant
from rised.runners.base import Exit, Job, JobHandle
from rised.runners.identity import decode, encode
from rised.storage.experiments import owner_of
from rised.storage.rows import MemberChange, MemberRow
from riseml_proto.errors import NoEngine, RisemlError, StorageFull, describe
from riseml_proto.states import Reason, State, advance
from riseml_proto.waiting import StartPutOff, WaitReason

# A full disk and a container engine that is away are looked at this often: nobody tells when that has changed.
_RETRY_SECONDS = 5.0
# Cleaning up after a job waits this long for the start of the next one.
_CLEAN_DELAY = 0.05


class SlotCallbacks(NamedTuple):
    """How a sub-experiment tells the scheduler of the slot that it holds."""

    on_begin: Callable[[MemberRow], None]
    """To be called with its row when its job has the start signal."""
    release: Callable[[], None]
    """Gives back what it was granted; to be called once."""
    no_start_pending: Callable[[], Awaitable[None]]
    """Returns when no job is about to start."""


class Lifecycle:
    """One sub-experiment from its grant to its end."""

    def __init__(
        self,
        services: Services,
        experiment: Experiment,
        row: MemberRow,
        grant: Grant,
        slot: SlotCallbacks,
        take_held: Callable[[], Awaitable[HeldJob | None]] | None = None,
    ) -> None:
        """`row` is the database's, or a new one in state CREATED; `take_held` gives its job if that is started."""
        self._services = services
        self._experiment = experiment
        self._row = row
        self._unwritten: list[MemberChange] = []
        self._grant = grant
        self.gpus = grant.gpus
        self._slot = slot
        self._take_held = take_held
        self._switch = KillSwitch(row.kill, experiment.config.grace(services.settings.kill_grace))
        self._handle: JobHandle | None = None
        self.wait_reason: WaitReason | None = None
        """What keeps it from starting again."""
        self._tries = 0
        self._short_since = 0.0
        self._retry_at = -math.inf
        self._began_ms = row.started_ms
        """When an earlier attempt began."""

    def use(self, snapshot: ProcessSnapshot) -> Use:
        """What its processes on this machine use now. Blocks for milliseconds: for another thread."""
        local = self._handle.local if self._handle else None
        return measure(local.pids(snapshot), local.cgroup) if local else Use()

    def kill(self, mode: KillMode) -> None:
        """Make it end; a second call by force cuts the grace period short."""
        self._switch.kill(mode)
        # The database has it already: what is written from now on must not undo it.
        mode = self._switch.mode
        self._row = self._row._replace(kill=mode)
        changes = self._unwritten
        self._unwritten = [c._replace(row=c.row._replace(kill=mode)) for c in changes]

    async def run(self) -> None:
        """Start or adopt its job, and start it again while that is due."""
        again = await self._adopt() if self._row.state is State.RUNNING else True
        while again:
            if self._switch.mode:
                if held := await self._held():
                    await launch.abandon(self._services, held)
                await self._end(State.KILLED, Reason.KILLED)
                self._slot.release()
                return
            again = await self._attempt()

    async def _adopt(self) -> bool:
        """Go on with the job that an earlier daemon started."""
        job = self._job()
        assert self._row.handle is not None
        handle = await self._services.runner.adopt(job, decode(self._row.handle))
        log.info("job adopted", job=job.id, attempt=job.attempt)
        self._slot.on_begin(self._row)
        return await self._see_through(job, handle)

    async def _attempt(self) -> bool:
        """Make one attempt. Return whether there is to be another."""
        with self._switch.until_killed():
            await trio.sleep_until(self._retry_at)
        async with self._services.start_gate.passing(self._switch.until_killed()):
            if self._switch.mode:
                return True
            started = await self._start()
        if started:
            return await self._see_through(*started)
        return not self._row.state.ended

    async def _start(self) -> HeldJob | None:
        """Start a job and let it begin. None: it could not be started, and waits or has failed."""
        services, experiment, row = self._services, self._experiment, self._row
        held = await self._held()
        if self._row.state is not State.PENDING:
            self._come_to(State.PENDING)
        attempt = (
            held.job.attempt
            if held
            else launch.next_attempt(services, experiment, row.member, row.attempt)
        )
        gpus = json.dumps([[index, services.gpu_uuids.get(index)] for index in self._grant.gpus])
        self._come_to(State.STARTING, attempt=attempt, gpus=gpus, handle=None)
        try:
            held = held or await launch.start(
                services, experiment, row.member, attempt, self._grant, self._write
            )
            launch.make_output(services, experiment, row.member)
            identity = encode(held.handle.identity)
        except (RisemlError, OSError) as error:
            await self._abandon(held)
            if not await self._put_off(error):
                await self._end(State.FAILED, Reason.START_FAILED, self._problem(error))
                self._slot.release()
            return None
        job, handle = held
        try:
            self._come_to(State.RUNNING, handle=identity, started_ms=now_ms())
            await self._write()
            await services.database.sync_start()
            crash_point("before-begin")
            if not self._switch.mode:
                launch.log_ignored_image(experiment, job)
                handle.begin(visible_gpus(self._grant))
            crash_point("after-begin")
        except BaseException:
            handle.close()
            raise
        self._slot.on_begin(self._row)
        services.start_gate.note_start()
        self.wait_reason = None
        return held

    async def _held(self) -> HeldJob | None:
        """Its job if that was started ahead of its turn; for the first attempt only."""
        take, self._take_held = self._take_held, None
        return await take() if take else None

    def _job(self) -> Job:
        return launch.member_job(
            self._services, self._experiment, self._row.member, self._row.attempt
        )

    async def _abandon(self, held: HeldJob | None) -> None:
        if held:
            await launch.abandon(self._services, held)
        else:
            await self._services.runner.clean(self._job())

    async def _put_off(self, error: Exception) -> bool:
        """Let it wait if `error` may pass by itself, else return False. The next try has a number of its own."""
        if isinstance(error, (StorageFull, NoEngine)):
            seconds: float = _RETRY_SECONDS
        elif number := launch.shortage_behind(error):
            if not self._is_patient():
                return False
            seconds = shortage.pause(self._tries)
            if shortage.is_of_the_machine(number):
                seconds = 0  # the gate holds it up, and others with it
                self._services.start_gate.note_shortage()
        else:
            return False
        await self._wait_again(describe(error), seconds)
        return True

    def _is_patient(self) -> bool:
        """Count a try that failed; return whether there is to be another."""
        now = trio.current_time()
        if not self._tries:
            self._short_since = now
        self._tries += 1
        return now - self._short_since < shortage.GIVE_UP_SECONDS

    def _problem(self, error: Exception) -> str:
        minutes = round((trio.current_time() - self._short_since) / 60) if self._tries else 0
        return describe(error) + (f"; tried for {minutes} minutes" if minutes else "")

    async def _wait_again(self, problem: str, seconds: float) -> None:
        self.wait_reason = StartPutOff(problem)
        self._retry_at = trio.current_time() + seconds
        self._come_to(State.PENDING, problem, handle=None, started_ms=self._began_ms)
        await self._write()
        log.warning("start put off", job=self._job().id, why=problem, seconds=seconds)

    async def _put_off_unbegun(self, job: Job, status: Exit) -> bool:
        """Let a job wait whose shell ended before anything of the job ran, if that may pass by itself."""
        if self._switch.mode or status.code is None:
            return False
        if status.begun:
            if not launch.could_not_fork(job, status):
                return False
            problem = "its shell could not fork"
        elif job.container and status.code == NO_SUCH_PROGRAM:
            return False
        else:
            problem = f"its shell could not begin (exit code {status.code})"
        if not self._is_patient():
            return False
        is_of_the_machine = status.code in shortage.FORK_CODES
        if is_of_the_machine:
            self._services.start_gate.note_shortage()
        seconds = 0 if is_of_the_machine else shortage.pause(self._tries)
        await self._wait_again(problem, seconds)
        return True

    async def _see_through(self, job: Job, handle: JobHandle) -> bool:
        """Watch a started job until nothing of it is left. Return whether there is to be another attempt."""
        services = self._services
        notify = partial(
            services.transitions.subscriptions.notify, self._experiment.number, self._row.member
        )
        watch = services.watcher.add(job.log, notify)
        self._handle = handle
        try:
            status, over_time = await self._wait(handle)
            crash_point("before-settle")
            await self._switch.with_grace(handle.settle)
        finally:
            self._handle = None
            watch.close()
            handle.close()
        crash_point("before-end")
        again = await self._conclude(job, status, over_time)
        crash_point("after-end")
        if not again:
            self._slot.release()
        crash_point("before-clean")
        with trio.move_on_after(_CLEAN_DELAY):
            await self._slot.no_start_pending()
        await services.runner.clean(job)
        return again

    async def _wait(self, handle: JobHandle) -> tuple[Exit, bool]:
        """Return how it ended, and whether that was because its time was over."""
        with self._switch.until_killed() as scope:
            limit, started = self._experiment.config.time_limit, self._row.started_ms
            if limit is not None and started is not None:
                scope.deadline = trio.current_time() + limit - (now_ms() - started) / 1000
            return await handle.wait(), False
        over_time = not self._switch.mode
        stop_signal = signal.Signals[self._experiment.config.stop_signal]
        await self._switch.with_grace(partial(handle.kill, stop_signal=stop_signal))
        return await handle.wait(), over_time

    async def _conclude(self, job: Job, status: Exit, over_time: bool) -> bool:
        """Write the outcome of an attempt that has ended. Return whether there is to be another."""
        if await self._put_off_unbegun(job, status):
            return True
        self._tries = 0
        row, config = self._row, self._experiment.config
        result = outcome(
            AttemptEnd(
                *status,
                self._switch.mode,
                over_time,
                job.container is not None,
                row.failures,
                config.retries,
            )
        )
        message = result.message and result.message.format(
            attempt=row.attempt,
            command="; ".join(job.commands),
            code=status.code,
            image=config.image,
            limit=config.time_limit,
        )
        ran_since_ms = row.started_ms if result.is_charged else None
        if result.state is not State.PENDING:
            await self._end(
                result.state, result.reason, message, result.exit_code, ran_since_ms=ran_since_ms
            )
            return False
        self._come_to(
            State.PENDING,
            message,
            ran_since_ms=ran_since_ms,
            handle=None,
            failures=row.failures + result.is_retry,
            started_ms=row.started_ms if status.begun else None,
        )
        await self._write()
        return True

    async def _end(
        self,
        state: State,
        reason: Reason | None,
        message: str | None = None,
        exit_code: int | None = None,
        *,
        ran_since_ms: int | None = None,
    ) -> None:
        started_ms = self._row.started_ms
        self._come_to(
            state,
            message,
            ran_since_ms=ran_since_ms,
            reason=reason,
            exit_code=exit_code,
            ended_ms=max(now_ms(), started_ms or 0),
            results=self._results() if started_ms else None,
        )
        await self._write()

    def _results(self) -> str | None:
        row = self._experiment.row
        reported = results.read(self._services.layout.output(row, self._row.member), owner_of(row))
        return json.dumps(reported) if reported else None

    def _come_to(
        self,
        state: State,
        message: str | None = None,
        *,
        ran_since_ms: int | None = None,
        **columns: object,
    ) -> None:
        """Change the state, and other columns with it, with the next `_write`. `ran_since_ms`: see `MemberChange`."""
        self._row = self._row._replace(state=advance(self._row.state, state), **columns)  # type: ignore[arg-type]
        self._unwritten.append(MemberChange(self._row, now_ms(), message, ran_since_ms))

    async def _write(self) -> None:
        """Write all changes so far as one; wait for room on the disk."""
        write = self._services.transitions.write
        await until_room(lambda: write(self._experiment, *self._unwritten))
        self._unwritten.clear()
