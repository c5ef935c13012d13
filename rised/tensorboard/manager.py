"""Starts TensorBoards: one for each experiment that has `tensorboard: true`, until it ends, and others on request.

`144.tensorboard` is a job of its own. It is a plain process, whatever runs the experiment; it outlives the daemon, and
the next daemon adopts it. It holds no resources that others wait for, and however it ends, the experiment goes on.
"""

import contextlib
import glob
import importlib.util
import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from rised.clock import now_ms
from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.experiments.job_spec import bare_environment
from rised.linux.files import make_directory
from rised.log import log
from rised.runners.base import Job, JobHandle
from rised.runners.identity import decode, encode
from rised.storage.experiments import owner_of
from rised.storage.rows import BOARD, ExperimentRow, JobRow
from rised.subscriptions import Subscription
from rised.users.owner import Owner
from riseml_proto import ids
from riseml_proto.errors import RisemlError, StorageFull, describe

NOT_INSTALLED = "this daemon has no TensorBoard; install rised with pip as rised[tensorboard]"

_MAX_STARTS = 3
"""How often the TensorBoard of an experiment is started if it ends by itself."""
_TAIL = 4096  # bytes


def is_installed() -> bool:
    """Whether Python finds the package `tensorboard`."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoards:
    """The TensorBoards of one daemon."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._numbers = itertools.count(1)
        self._problems: dict[int, str] = {}

    def problem(self, row: ExperimentRow) -> str | None:
        """Why an experiment's TensorBoard cannot be reached though it was started or should be; None where it can."""
        job = self._services.database.jobs.get(row.id, BOARD)
        if job is not None and job.ended_ms is None:
            return None
        if row.id in self._problems:
            return self._problems[row.id]
        # Of one that ended because its experiment did no exit code was kept.
        return None if job is None or job.exit_code is None else _death(row.id, job.exit_code)

    def remove_leftovers(self) -> None:
        """Remove the files of those that were served on request when an earlier daemon died."""
        for path in glob.glob(self._services.layout.board("board-*")):
            stat = os.lstat(path)
            name = os.path.basename(path)
            self._services.layout.remove_board(name, Owner(stat.st_uid, stat.st_gid))

    async def serve_experiment(self, experiment: Experiment) -> None:
        """Run the TensorBoard of an experiment until the experiment has ended."""
        number = experiment.number
        try:
            for _ in range(_MAX_STARTS):
                row = self._services.database.jobs.get(number, BOARD)
                if await self._run(experiment.row, row, experiment.done):
                    return
            log.warning("TensorBoard ends by itself again and again", experiment=number)
        except (RisemlError, OSError) as error:
            log.warning("no TensorBoard", experiment=number, why=str(error))
            self._problems[number] = f"cannot be started: {describe(error)}"
        self._services.transitions.subscriptions.notify(number)
        await experiment.done.wait()
        self._problems.pop(number, None)  # what is in the database remains

    async def end(self, row: JobRow) -> None:
        """End a TensorBoard whose experiment has ended while no daemon ran."""
        experiment = self._services.database.experiments.get(row.experiment)
        assert experiment is not None
        done = trio.Event()
        done.set()
        await self._run(experiment, row, done)

    async def _run(self, experiment: ExperimentRow, row: JobRow | None, done: trio.Event) -> bool:
        """Start or adopt it, and wait for its end. Return whether it ended because the experiment did."""
        services, number = self._services, experiment.id
        adopted = row is not None and row.ended_ms is None and row.handle is not None
        if row is None or not adopted:
            row = JobRow(number, BOARD, (row.attempt if row else 0) + 1, now_ms())
        outputs = {str(number): services.layout.output(experiment, 0)}
        path = services.layout.log(number, 0, BOARD, row.attempt)
        owner = owner_of(experiment)
        job = self._job(ids.job_id(number, 0, BOARD), row.attempt, path, owner, outputs)
        if row.handle and adopted:
            handle = await services.runner.adopt(job, decode(row.handle))
        else:
            handle = await self._start(job)
            row = row._replace(handle=encode(handle.identity))
            services.transitions.save_job(row)
            handle.begin("")
            self._problems.pop(number, None)
        watch = services.watcher.add(
            path, partial(services.transitions.subscriptions.notify, number)
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, done.wait, nursery.cancel_scope)
                end = await handle.wait()
                if not done.is_set():
                    row = row._replace(exit_code=end.code)
                    self._problems[number] = _death(number, end.code)
                nursery.cancel_scope.cancel()
            await self._finish(job, handle)
        finally:
            watch.close()
            handle.close()
        with contextlib.suppress(StorageFull):  # the next daemon finds that it is gone
            services.transitions.save_job(row._replace(ended_ms=now_ms()))
        services.transitions.subscriptions.notify(number)
        return done.is_set()

    async def _start(self, job: Job) -> JobHandle:
        make_directory(os.path.dirname(job.log))
        make_directory(job.files)
        self._services.layout.remove_board(job.id, job.owner)
        self._services.layout.make_board(job.id, job.owner)
        return await self._services.runner.start(job)

    async def _finish(self, job: Job, handle: JobHandle) -> None:
        await handle.kill(0)  # it has nothing to save
        await handle.settle(0)
        await self._services.runner.clean(job)
        self._services.layout.remove_board(job.id, job.owner)

    async def serve_outputs(
        self, owner: Owner, outputs: dict[str, str], send_url: Callable[[str], Awaitable[None]]
    ) -> str:
        """Run one over some outputs, run → directory, until this is cancelled; `send_url` gets its URL.

        If it ends by itself, return how: its exit code and the last line of its log.
        """
        services = self._services
        name = f"board-{next(self._numbers)}"
        path = os.path.join(services.layout.board(name) + ".log", "log")
        job = self._job(name, 1, path, owner, outputs, end_with=os.getpid())
        handle = await self._start(job)
        log_grows = Subscription()
        watch = services.watcher.add(path, log_grows.notify)
        try:
            handle.begin("")

            async def announce() -> None:
                while (url := services.layout.board_url(name, owner)) is None:
                    await log_grows.wait()
                await send_url(url)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(announce)
                end = await handle.wait()
                nursery.cancel_scope.cancel()
            return f"{_exit_code(end.code)}: {_last_line(path)}"
        finally:
            with trio.CancelScope(shield=True):
                watch.close()
                await self._finish(job, handle)
                handle.close()
                shutil.rmtree(os.path.dirname(path), ignore_errors=True)

    def _job(
        self,
        name: str,
        attempt: int,
        path: str,
        owner: Owner,
        outputs: dict[str, str],
        end_with: int | None = None,
    ) -> Job:
        layout = self._services.layout
        argv = [sys.executable, "-m", "rised.tensorboard", "--directory", layout.board(name)]
        argv += ["--end-with", str(end_with)] if end_with else []
        argv += [f"{run}={output}" for run, output in outputs.items()]
        return Job(
            id=name,
            attempt=attempt,
            commands=[f"exec {shlex.join(argv)}"],
            env=bare_environment(owner.uid),
            files=layout.board("empty"),
            log=path,
            owner=owner,
        )


def _exit_code(code: int | None) -> str:
    return "exit code unknown" if code is None else f"exit code {code}"


def _death(number: int, code: int | None) -> str:
    log_of = ids.job_id(number, 0, BOARD)
    return f"has ended by itself ({_exit_code(code)}); its log: riseml logs {log_of}"


def _last_line(path: str) -> str:
    """The last line that is not empty of a log that is ours."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = file.read(_TAIL).decode(errors="replace").splitlines()
    return next(filter(None, map(str.strip, reversed(lines))), "it said nothing")


async def _cancel_after(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()
