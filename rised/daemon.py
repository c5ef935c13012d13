"""The daemon as a whole: `build` puts its parts together, `Daemon.serve` runs them beside one another.

locks        one daemon per state directory and per socket
database     brought up to date when it is opened; flushes what may be flushed later
children     reaps processes            ┐
pipes        bring output to the logs   │
watcher      puts times to log lines    │
monitor      takes out GPUs that fail   │ one nursery: whatever fails ends all of it, and a restart takes up everything
engine       starts containers          │
scheduler    starts and watches jobs    │
socket       serves requests            ┘
SIGTERM      ends them in the opposite order; jobs run on
"""

import gc
import os
import resource
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

import trio

from rised import locks
from rised.api.context import Context, Gpus
from rised.api.routes import handler
from rised.execution.images import Images
from rised.execution.services import Services
from rised.experiments.transitions import Transitions
from rised.gpus import devices
from rised.gpus.monitor import GpuMonitor
from rised.gpus.nvml import Nvml
from rised.http import listener
from rised.linux.children import Children
from rised.linux.systemd import ServiceManager
from rised.log import log
from rised.logs.watch import LogWatcher
from rised.policy.fairshare import FairShare
from rised.policy.resources import Inventory
from rised.queries.views import Views
from rised.revisions import Revisions
from rised.runners.client_package import install_client
from rised.runners.docker.engine import Engine
from rised.runners.docker.runner import ContainerRunner
from rised.runners.output.pipes import OutputPipes
from rised.runners.process import scope
from rised.runners.process.cgroups import Cgroups
from rised.runners.process.runner import ProcessRunner
from rised.runners.router import RunnerRouter
from rised.scheduling.accounting import UsageAccounting
from rised.scheduling.admission import Admission
from rised.scheduling.scheduler import Scheduler
from rised.scheduling.submission import Submissions
from rised.settings import Settings, group_id, quotas
from rised.storage.database import Database
from rised.subscriptions import Subscriptions
from rised.tensorboard.manager import TensorBoards
from riseml_proto import VERSION
from riseml_proto.errors import RisemlError


def main(settings: Settings, ready: Callable[[], None]) -> None:
    """Run a daemon until SIGTERM or SIGINT; `ready` is called when requests are served.

    Raises `DaemonError`, and `sqlite3.DatabaseError` for a damaged database.
    """
    run = partial(_run, settings, ServiceManager(os.environ), ready, _Signals())
    try:
        trio.run(run, strict_exception_groups=True)
    except BaseExceptionGroup as group:
        if group.split((RisemlError, sqlite3.DatabaseError))[1]:
            raise
        # Each nursery around it has wrapped the error.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


class _Signals:
    """SIGTERM and SIGINT while no receiver takes them: in the beginning they end the daemon as a `kill -9` does.

    Once it stops, further ones change nothing. Programs that are started do not inherit this.
    """

    def __init__(self) -> None:
        self.stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        if not self.stopping:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


async def _run(
    settings: Settings, manager: ServiceManager, ready: Callable[[], None], signals: _Signals
) -> None:
    with locks.hold(settings), closing(Database(settings.state_dir)) as database:
        await build(settings, database).serve(manager, ready, signals)


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """The parts of one daemon, put together."""

    context: Context
    children: Children
    engine: Engine
    containers: ContainerRunner
    pipes: OutputPipes

    async def serve(
        self, manager: ServiceManager, ready: Callable[[], None], signals: _Signals
    ) -> None:
        """Take up what an earlier daemon left, then serve until SIGTERM or SIGINT."""
        context, services, gpus = self.context, self.context.services, self.context.gpus
        context.tensorboards.remove_leftovers()
        services.check_output_mount()  # notes where it is while it surely is there
        unended = services.unended_jobs()
        services.runner.remove_leftovers(unended)
        install_client(services.layout.client, keep_others=bool(unended))
        with closing(services.runner), closing(gpus.nvml):
            async with trio.open_nursery() as nursery:
                await nursery.start(services.database.run)
                await nursery.start(self.children.run)
                await nursery.start(self.pipes.run)
                await nursery.start(services.watcher.run)
                await nursery.start(gpus.monitor.run)
                await nursery.start(self.engine.run)
                await nursery.start(self.containers.run)
                await nursery.start(context.scheduler.run)
                await self._answer(nursery, manager, ready, signals)
                if services.settings.stop_jobs:
                    await context.scheduler.stop_jobs()
                nursery.cancel_scope.cancel()
        running = sum(1 for _ in context.scheduler.inventory.grants())
        log.info("stopped; jobs run on", running=running)

    async def _answer(
        self,
        nursery: trio.Nursery,
        manager: ServiceManager,
        ready: Callable[[], None],
        later: _Signals,
    ) -> None:
        """Accept requests until a signal comes; those that are served by then are served on."""
        settings, given = self.context.services.settings, manager.listening_socket()
        with (
            # Before anyone is told that it is ready: who starts a daemon may stop it at once.
            trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
            listener.listening(settings.socket, *_openness(settings), given) as sock,
        ):
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    listener.serve, sock, handler(self.context), _connections(), nursery
                )
                # What is there now stays; the collector need not look at it again and again.
                gc.freeze()
                gc.set_threshold(20_000, 20, 50)
                log.info("ready", version=VERSION, pid=os.getpid(), socket=settings.socket)
                ready()
                nursery.start_soon(manager.ping_watchdog)
                manager.notify(READY=1, STATUS="serving")
                name = signal.Signals(await anext(signals)).name
                later.stopping = True
                manager.notify(STOPPING=1, STATUS="stopping")
                log.info("stopping", signal=name)
                # Nobody may still wait for the socket when it is closed: its descriptor is the next file's.
                accepting.cancel_scope.cancel()


def build(settings: Settings, database: Database) -> Daemon:
    """Put the parts of a daemon together. Nothing runs yet."""
    children, engine, gpus = Children(), Engine(), devices.find(settings.gpus)
    cgroups = Cgroups(database.instance, scope.of_this_service() if settings.system else None)
    pipes = OutputPipes(settings.state_dir, children, cgroups.holder)
    containers = ContainerRunner(settings.state_dir, database.instance, engine, pipes)
    processes = ProcessRunner(
        settings.state_dir,
        database.instance,
        children,
        cgroups,
        pipes,
        _raise_open_files(),
        shared=settings.system,
    )
    revisions = Revisions(
        settings.state_dir, max_files=settings.max_files, max_bytes=settings.max_bytes
    )
    share = FairShare(settings.half_life * 3600, database.usage.all())
    services = Services(
        database=database,
        transitions=Transitions(database, Subscriptions(), share),
        runner=RunnerRouter(processes, containers),
        revisions=revisions,
        watcher=LogWatcher(),
        settings=settings,
        gpu_uuids={gpu.index: gpu.uuid for gpu in gpus},
    )
    images = Images(engine, containers, revisions)
    context = build_context(services, images, share, gpus)
    return Daemon(
        context=context, children=children, engine=engine, containers=containers, pipes=pipes
    )


def build_context(
    services: Services, images: Images, share: FairShare, gpus: list[devices.GpuDevice]
) -> Context:
    """Put together the scheduler and what requests need beside it."""
    settings, database, nvml = services.settings, services.database, Nvml(gpus)
    allowed = quotas(settings)
    inventory = Inventory(
        cpus=len(os.sched_getaffinity(0)) if settings.cpus is None else settings.cpus,
        mem=_memory() if settings.mem is None else settings.mem,
        gpus=tuple(gpu.index for gpu in gpus),
    )
    monitor = GpuMonitor(database, inventory, gpus, nvml, settings.gpu_foreign_mem)
    tensorboards = TensorBoards(services)
    scheduler = Scheduler(
        services=services,
        images=images,
        tensorboards=tensorboards,
        gpus=monitor,
        accounting=UsageAccounting(inventory, share, allowed, kill_grace=settings.kill_grace),
    )
    unfinished = scheduler.unfinished
    views = Views(
        database,
        unfinished.experiments,
        unfinished.wait_reason,
        services.layout,
        tensorboards.problem,
    )
    return Context(
        services=services,
        scheduler=scheduler,
        submissions=Submissions(
            services, images, scheduler, Admission(allowed, settings.output_dir)
        ),
        images=images,
        tensorboards=tensorboards,
        views=views,
        gpus=Gpus(devices=gpus, monitor=monitor, nvml=nvml),
    )


def _openness(settings: Settings) -> tuple[int, int | None]:
    """The socket's mode and group: for whom the kernel opens it."""
    if not settings.system:
        return 0o600, None
    if settings.group is None:
        return 0o666, None
    return 0o660, group_id(settings.group)


def _raise_open_files() -> int:
    """Allow as many open files as the system lets us; return the limit that was there before, which jobs get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def _connections() -> int:
    """The most at once: half of the files that may be open. The rest is for jobs and logs."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def _memory() -> int:
    """MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
