"""The daemon as a whole: what is opened, in which order, and what runs beside what.

locks        one daemon per state directory and per socket
store        the database, brought up to date; flushes what may be flushed later
children     reaps processes      ┐
watcher      stamps logs          │ one nursery; whatever fails ends all, and a restart takes up everything
scheduler    starts and watches   │
socket       serves requests      ┘
SIGTERM      closes them in the opposite order; jobs run on
"""

import contextlib
import gc
import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

import trio

from rised.api.context import Context, Gpus
from rised.api.routes import handler
from rised.execution.images import Images
from rised.execution.services import Services
from rised.experiments.job_spec import TRAIN
from rised.experiments.transitions import Transitions
from rised.gpus import devices
from rised.gpus.monitor import GpuMonitor
from rised.gpus.nvml import Nvml
from rised.http import listener
from rised.linux.children import Children
from rised.linux.files import PASSABLE
from rised.linux.processes import stop
from rised.linux.systemd import ServiceManager
from rised.log import log
from rised.logs.watch import LogWatcher
from rised.policy.fairshare import FairShare
from rised.policy.resources import Inventory
from rised.queries.history import StoredHistory
from rised.queries.views import Views
from rised.revisions import Revisions
from rised.runners.client_package import link_client
from rised.runners.docker.engine import Engine
from rised.runners.docker.runner import ContainerRunner
from rised.runners.identity import JobIdentity, decode
from rised.runners.process import scope, setpriv
from rised.runners.process.cgroups import Cgroups
from rised.runners.process.runner import ProcessRunner
from rised.runners.router import RunnerRouter
from rised.scheduling.accounting import UsageAccounting
from rised.scheduling.admission import Admission
from rised.scheduling.scheduler import Scheduler
from rised.scheduling.submission import Submissions
from rised.settings import Settings, group_id, quotas
from rised.storage.database import Database
from rised.storage.layout import Layout
from rised.subscriptions import Subscriptions
from rised.tensorboard.manager import TensorBoards
from rised.users import impersonation
from riseml_proto import VERSION
from riseml_proto.errors import DaemonError, RisemlError
from riseml_proto.ids import job_id


async def run(settings: Settings, manager: ServiceManager, ready: Callable[[], None]) -> None:
    """Run until SIGTERM or SIGINT; `ready` is called when requests are served. Raises `DaemonError`."""
    with _places(settings), contextlib.closing(Database(settings.state_dir)) as database:
        open_files = _raise_open_files()
        children, subscriptions, watcher = Children(), Subscriptions(), LogWatcher()
        found = devices.find(settings.gpus)
        layout = Layout(settings.state_dir, settings.output_dir)
        revisions = Revisions(
            settings.state_dir, max_files=settings.max_files, max_bytes=settings.max_bytes
        )
        engine = Engine()
        containers = ContainerRunner(settings.state_dir, database.instance, engine)
        cgroups = Cgroups(database.instance, scope.of_this_service() if settings.system else None)
        processes = ProcessRunner(
            settings.state_dir,
            database.instance,
            children,
            cgroups,
            open_files,
            shared=settings.system,
        )
        runner = RunnerRouter(processes, containers)
        images = Images(engine, containers, revisions)
        share = FairShare(settings.half_life * 3600, database.usage())
        transitions = Transitions(database, subscriptions, share)
        services = Services(
            database,
            transitions,
            runner,
            revisions,
            watcher,
            layout,
            subscriptions,
            data_dir=settings.data_dir,
            kill_grace=settings.kill_grace,
            gpu_uuids={gpu.index: gpu.uuid for gpu in found},
            state_dir=settings.state_dir,
            min_free=settings.min_free,
        )
        inventory = Inventory(
            cpus=_cpus() if settings.cpus is None else settings.cpus,
            mem=_memory() if settings.mem is None else settings.mem,
            gpus=tuple(gpu.index for gpu in found),
        )
        nvml = Nvml(found)
        tensorboards = TensorBoards(services)
        tensorboards.remove_leftovers()
        allowed = quotas(settings)
        turns = UsageAccounting(inventory, share, allowed, kill_grace=settings.kill_grace)
        gpu_monitor = GpuMonitor(database, inventory, found, nvml, settings.gpu_foreign_mem)
        scheduler = Scheduler(
            database, transitions, services, images, tensorboards, inventory, gpu_monitor, turns
        )
        views = Views(database, scheduler.experiments, layout)
        submissions = Submissions(
            settings=settings,
            database=database,
            revisions=revisions,
            images=images,
            scheduler=scheduler,
            admission=Admission(allowed, settings.output_dir),
        )
        context = Context(
            settings=settings,
            services=services,
            scheduler=scheduler,
            submissions=submissions,
            images=images,
            tensorboards=tensorboards,
            views=views,
            history=StoredHistory(database, views, layout),
            gpus=Gpus(devices=found, monitor=gpu_monitor, nvml=nvml),
        )
        runner.remove_leftovers(_kept(database))
        link_client(layout.client)
        with contextlib.closing(runner), contextlib.closing(nvml):
            async with trio.open_nursery() as nursery:
                await nursery.start(database.run)
                await nursery.start(children.run)
                await nursery.start(watcher.run)
                await nursery.start(gpu_monitor.run)
                await nursery.start(engine.run)
                await nursery.start(containers.run)
                await nursery.start(scheduler.run)
                with (
                    # Before anyone is told that it is ready: who starts a daemon may stop it at once.
                    trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
                    listener.listening(
                        settings.socket, *_openness(settings), manager.listening_socket()
                    ) as sock,
                ):
                    nursery.start_soon(listener.serve, sock, handler(context), _connections())
                    # What is there now stays; the collector need not look at it again and again.
                    gc.freeze()
                    gc.set_threshold(20_000, 20, 50)
                    log.info("ready", version=VERSION, pid=os.getpid(), socket=settings.socket)
                    ready()
                    nursery.start_soon(manager.ping_watchdog)
                    manager.notify(READY=1, STATUS="serving")
                    name = signal.Signals(await anext(signals)).name
                    manager.notify(STOPPING=1, STATUS="stopping")
                    log.info("stopping", signal=name)
                if settings.stop_jobs:
                    await scheduler.stop_jobs()
                nursery.cancel_scope.cancel()
        log.info("stopped; jobs run on", running=sum(1 for _ in inventory.holders()))


@contextlib.contextmanager
def _places(settings: Settings) -> Iterator[None]:
    """Make the directories and hold the locks."""
    try:
        if settings.system:
            impersonation.check()
            setpriv.check()
            os.umask(0o022)  # users pass through what lies above
        for directory in (settings.state_dir, settings.output_dir, settings.data_dir):
            _make_place(directory, shared=settings.system)
        listener.prepare_directory(settings.socket, 0o755 if settings.system else 0o700)
        if settings.system:
            os.umask(0o077)
    except OSError as error:
        raise DaemonError(f"{error.filename}: {error.strerror}; name another directory") from None
    state_lock = os.path.join(settings.state_dir, "lock")
    with listener.locked(settings.socket + ".lock", settings.socket):
        if (lost := listener.unreachable_holder(state_lock, settings.socket)) is not None:
            log.info("ending the daemon that lost its socket; jobs run on", pid=lost)
            stop(lost)
        with listener.locked(state_lock, settings.state_dir, settings.socket):
            yield


def _make_place(directory: str, *, shared: bool) -> None:
    """Make a directory of the daemon's; users pass through one that is `shared` to what is theirs in it."""
    if os.path.isdir(directory):
        return
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if shared:
        os.chmod(directory, PASSABLE)


def _openness(settings: Settings) -> tuple[int, int | None]:
    """The socket's mode and group: to whom the kernel opens it."""
    if not settings.system:
        return 0o600, None
    if settings.group is None:
        return 0o666, None
    return 0o660, group_id(settings.group)


def _kept(database: Database) -> dict[str, JobIdentity]:
    """The keys of jobs whose files a restart must not touch, and their identities."""
    members = {
        f"{job_id(row.id, member.member, TRAIN)}.{member.attempt}": decode(member.handle)
        for row in database.unfinished()
        for member in database.unended_members(row.id)
        if member.handle
    }
    own = {
        f"{job_id(row.experiment, 0, row.job)}.{row.attempt}": decode(row.handle)
        for row in database.unended_jobs()
        if row.handle
    }
    return members | own


def _raise_open_files() -> int:
    """Allow as many open files as the system lets us; return what jobs are to get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def _connections() -> int:
    """How many there may be: half of the files that may be open, the rest is for jobs and logs."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def main(settings: Settings, ready: Callable[[], None]) -> None:
    """`run`, from the outside. Raises `DaemonError`, and `sqlite3.DatabaseError` for a damaged database."""
    try:
        trio.run(
            partial(run, settings, ServiceManager(os.environ), ready), strict_exception_groups=True
        )
    except BaseExceptionGroup as group:
        if group.split((RisemlError, sqlite3.DatabaseError))[1]:
            raise
        # Each nursery around the place where it happened has wrapped it.
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found from None
