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
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from rised.bells import Bells
from rised.clock import now_ms
from rised.crashpoints import crash_point
from rised.experiment import Experiment
from rised.job import TRAIN, commands, environment
from rised.layout import Layout, make_directory, write_file
from rised.ledger import Ledger
from rised.log import log
from rised.logs.watch import LogWatcher
from rised.resources import Grant
from rised.revisions import Revisions
from rised.revisions.places import disk_may_be_full
from rised.runners.base import Exit, Handle, Job, Runner
from rised.store.records import Change, MemberRow
from rised.store.store import Store
from riseml_proto import ids
from riseml_proto.errors import RisemlError, StorageFull
from riseml_proto.states import Reason, State, advance

# A job that cannot start because the disk is full is tried again; the kernel does not tell when there is room.
_FULL_DISK_SECONDS = 5.0

_IMAGE_IGNORED = "rised: image {} is ignored: jobs are processes here\n"


class Workshop:
    """What every sub-experiment's life needs, in one place."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        runner: Runner,
        revisions: Revisions,
        watcher: LogWatcher,
        layout: Layout,
        bells: Bells,
        *,
        data_dir: str,
        kill_grace: float,
        gpu_uuids: dict[int, str | None],
        runs_images: bool,
    ) -> None:
        """`kill_grace` counts seconds; `runs_images` is false where the runner ignores `image`."""
        self.store = store
        self.ledger = ledger
        self.runner = runner
        self.revisions = revisions
        self.watcher = watcher
        self.layout = layout
        self.bells = bells
        self.data_dir = data_dir
        self.kill_grace = kill_grace
        self.gpu_uuids = gpu_uuids
        self.runs_images = runs_images


class Lifecycle:
    """One sub-experiment on its way."""

    def __init__(
        self,
        shop: Workshop,
        experiment: Experiment,
        row: MemberRow,
        grant: Grant,
        release: Callable[[], None],
    ) -> None:
        """`row` is the database's, or a new one in state CREATED; `release` gives back the grant."""
        self._shop = shop
        self._experiment = experiment
        self._row = row
        self._grant = grant
        self._release = release
        self._kill = row.kill
        self._unwritten: list[Change] = []
        self._patience = trio.CancelScope()
        self._grace = trio.CancelScope()

    def kill(self, force: bool) -> None:
        """Make it end; a second call with `force` cuts the grace period short."""
        self._kill = max(self._kill, 2 if force else 1)
        self._row = self._row._replace(kill=self._kill)
        self._unwritten[:] = [
            change._replace(row=change.row._replace(kill=self._kill)) for change in self._unwritten
        ]
        self._patience.cancel()
        if force:
            self._grace.cancel()

    async def run(self) -> None:
        """Live it to its end."""
        again = await self._resume() if self._row.state is State.RUNNING else True
        while again:
            if self._kill:
                await self._end(State.KILLED, Reason.KILLED, None, None)
                self._release()
                return
            again = await self._attempt()

    async def _resume(self) -> bool:
        """Take back what an earlier daemon started."""
        job = self._job("")
        assert self._row.handle is not None
        handle = await self._shop.runner.adopt(job, self._row.handle)
        log.info("job adopted", job=job.id, attempt=job.attempt)
        return await self._see_through(job, handle)

    async def _attempt(self) -> bool:
        """One attempt. Return whether there is to be another."""
        row = self._experiment.row
        if self._row.state is not State.PENDING:
            self._come_to(State.PENDING)
        self._come_to(
            State.STARTING,
            attempt=self._row.attempt + 1,
            gpus=_gpus(self._grant, self._shop.gpu_uuids),
            handle=None,
        )
        try:
            files = await self._shop.revisions.checkout(row.user, row.project, row.revision)
            job = self._job(files)
            if not self._shop.runner.starts_at_once(job):
                await self._write()
            self._prepare(job)
            handle = await self._shop.runner.start(job)
        except StorageFull as error:
            return await self._wait_for_room(str(error))
        except (RisemlError, OSError) as error:
            await self._end(State.FAILED, Reason.START_FAILED, str(error), None)
            self._release()
            await self._shop.runner.clean(self._job(""))
            return False
        try:
            self._come_to(State.RUNNING, handle=handle.identity, started_ms=now_ms())
            await self._write()
            await self._shop.store.sync_start()
            crash_point("before-go")
            if not self._kill:
                handle.go()
            crash_point("after-go")
        except BaseException:
            handle.close()
            raise
        return await self._see_through(job, handle)

    def _come_to(self, state: State, message: str | None = None, **facts: object) -> None:
        """Change the state, which is written together with what else changes before the next `_write`."""
        self._row = self._row._replace(state=advance(self._row.state, state), **facts)  # type: ignore[arg-type]
        self._unwritten.append(Change(self._row, now_ms(), message))

    async def _write(self) -> None:
        await self._shop.ledger.write_surely(self._experiment, self._unwritten)
        self._unwritten.clear()

    def _prepare(self, job: Job) -> None:
        """Make its output directory and its log. Raises `OSError`, `StorageFull`."""
        experiment, member = self._experiment, self._row.member
        output = job.env["OUTPUT_DIR"]
        with disk_may_be_full(output):
            make_directory(output)
            text = experiment.configuration.text(experiment.params(member) or None)
            write_file(output + "/riseml-configuration.yml", text.encode())
        crash_point("output-made")
        with disk_may_be_full(job.log):
            make_directory(os.path.dirname(job.log))
            if experiment.config.image and not self._shop.runs_images:
                note = _IMAGE_IGNORED.format(experiment.config.image)
                write_file(job.log, note.encode())

    def _job(self, files: str) -> Job:
        experiment, member = self._experiment, self._row.member
        return Job(
            id=ids.job_id(experiment.number, member, TRAIN),
            attempt=self._row.attempt,
            commands=commands(experiment, member),
            env=environment(
                experiment,
                member,
                self._grant,
                output_dir=self._shop.layout.output(experiment.row, member),
                data_dir=self._shop.data_dir,
            ),
            files=files,
            log=self._shop.layout.log(experiment.number, member, TRAIN, self._row.attempt),
        )

    async def _see_through(self, job: Job, handle: Handle) -> bool:
        """Watch a started job until nothing of it is left. Return whether there is to be another attempt."""
        shop = self._shop
        ring = partial(shop.bells.ring, self._experiment.number, self._row.member)
        watch = shop.watcher.add(job.log, ring)
        try:
            how, over = await self._wait(handle)
            crash_point("before-settle")
            await self._with_grace(handle.settle)
        finally:
            watch.close()
            handle.close()
        crash_point("before-end")
        again = await self._conclude(job, how, over)
        crash_point("after-end")
        if not again:
            self._release()
        crash_point("before-clean")
        await shop.runner.clean(job)
        return again

    async def _wait(self, handle: Handle) -> tuple[Exit, bool]:
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
        if self._kill < 2:
            with trio.CancelScope() as self._grace:
                return await end(self._shop.kill_grace)
        return await end(0)

    async def _conclude(self, job: Job, how: Exit, over: bool) -> bool:
        if self._kill:
            await self._end(State.KILLED, Reason.KILLED, None, how.code)
            return False
        if not how.begun and how.code is None:
            # The daemon that started it died before it gave leave: nothing has happened yet.
            self._come_to(State.PENDING, handle=None, started_ms=None)
            return True
        if not how.begun:
            told = f"its shell could not begin (exit code {how.code}); its log may say why"
            await self._end(State.FAILED, Reason.START_FAILED, told, None)
            return False
        told = f"Command '{'; '.join(job.commands)}' return code: {how.code}"
        if over:
            limit = self._experiment.config.time_limit
            state, reason, told = State.FAILED, Reason.TIME_LIMIT, f"ran longer than {limit:g} s"
        elif how.code is None:
            state, reason = State.FAILED, Reason.LOST
            told = "the job ended while nobody watched, and left no exit code"
        elif how.code == 0:
            state, reason = State.FINISHED, Reason.COMPLETED
        else:
            state, reason = State.FAILED, Reason.ERROR
        if state is State.FAILED and self._row.failures < self._experiment.config.retries:
            failed = f"attempt {self._row.attempt} failed: {told}"
            self._come_to(State.PENDING, failed, handle=None, failures=self._row.failures + 1)
            await self._write()
            return True
        await self._end(state, reason, told, how.code)
        return False

    async def _wait_for_room(self, message: str) -> bool:
        self._come_to(State.PENDING, message, handle=None)
        await self._write()
        job = self._job("")
        log.warning("start put off", job=job.id, why=message)
        await self._shop.runner.clean(job)
        with self._until_killed():
            await trio.sleep(_FULL_DISK_SECONDS)
        return True

    async def _end(
        self, state: State, reason: Reason, message: str | None, code: int | None
    ) -> None:
        ended_ms = max(now_ms(), self._row.started_ms or 0)
        self._come_to(state, message, reason=reason, exit_code=code, ended_ms=ended_ms)
        await self._write()


def _gpus(grant: Grant, uuids: Mapping[int, str | None]) -> str:
    return json.dumps([[index, uuids.get(index)] for index in grant.gpus])
