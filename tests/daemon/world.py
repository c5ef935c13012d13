"""A machine in memory for the model's tests: jobs that outlive daemons, a disk that may be full, clocks that jump.

The scheduler, the transitions, the lifecycle and the database are the real ones. What stands in for the rest is here: a
runner whose jobs end when a test says so, working copies that cost nothing, and crash points that break a daemon off
instead of killing the tests' own process.
"""

import os
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pytest
import trio
import trio.testing

import rised.clock
from rised.clock import now_ms
from rised.daemon import build_context
from rised.execution.images import Images
from rised.execution.services import Services
from rised.experiments.transitions import Transitions
from rised.gpus.devices import GpuDevice
from rised.linux.children import Children
from rised.policy.fairshare import FairShare
from rised.runners.base import Exit, Job
from rised.runners.docker.engine import Engine
from rised.runners.docker.runner import ContainerRunner
from rised.runners.identity import JobIdentity, ProcessIdentity
from rised.runners.output.pipes import OutputPipes
from rised.settings import Settings
from rised.storage.database import Database
from rised.storage.rows import ExperimentRow
from rised.subscriptions import Subscriptions
from riseml_proto.config import parse_config
from riseml_proto.errors import RisemlError, StartFailed, StorageFull
from riseml_proto.states import State

T = TypeVar("T")

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""


class CrashError(BaseException):
    """The daemon dies here. Nothing catches it, as nothing catches SIGKILL."""


@dataclass(eq=False)
class Process:
    """One attempt of a job, as the machine knows it whatever daemon runs."""

    key: tuple[str, int]
    gpus: tuple[int, ...]
    stubborn: bool
    begun: bool = False
    alive: bool = True
    code: int | None = None
    """What its exit file says."""
    leftovers: bool = False
    """Whether something of it is alive after its end."""
    end: trio.Event = field(default_factory=trio.Event)
    empty: trio.Event = field(default_factory=trio.Event)

    @property
    def there(self) -> bool:
        """Whether anything of it is alive."""
        return self.alive or self.leftovers

    def die(self, code: int | None, *, leftovers: bool = False) -> None:
        """Its shell ends with `code`; None: without a word, as when the machine loses power."""
        self.alive, self.code, self.leftovers = False, code, leftovers
        self.end.set()
        if not leftovers:
            self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """What it left behind ends, too."""
        self.leftovers = False
        self.empty.set()


def _identity(job: str, attempt: int) -> JobIdentity:
    """What finds an attempt in a `World`, in the form that a database takes."""
    return ProcessIdentity(pid=1, start=1, boot="", cgroup=None, exit_file=f"{job}/{attempt}")


class FakeHandle:
    """A daemon's hold on a process that runs on another machine than the daemon."""

    local = None

    def __init__(self, world: "World", process: Process, *, adopted: bool) -> None:
        self._world = world
        self.process = process
        self.identity = _identity(*process.key)
        self._adopted = adopted

    @property
    def is_held(self) -> bool:
        """Whether it is there and has not begun."""
        return self.process.alive and not self.process.begun

    def begin(self, visible_gpus: str) -> None:
        """Let it begin."""
        self.process.gpus = tuple(map(int, filter(None, visible_gpus.split(","))))
        if self.process.alive:
            self.process.begun = True
            self._world.begun[self.process.key] += 1

    async def wait(self) -> Exit:
        """Return at its shell's end."""
        await trio.lowlevel.checkpoint()
        await self.process.end.wait()
        if not self.process.begun:
            return Exit(begun=False, code=None if self._adopted else 0)
        return Exit(begun=True, code=self.process.code)

    async def kill(self, grace: float, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """End it: at once, or when it obeys, or when its time of grace is over."""
        await trio.lowlevel.checkpoint()
        process = self.process
        if not process.there:
            return
        if not process.stubborn:
            process.die(143 if process.alive else process.code)
        elif grace:
            with trio.move_on_after(grace):
                await process.empty.wait()
        if process.there:
            process.die(137 if process.alive else process.code)

    async def settle(self, grace: float) -> None:
        """End what it left behind."""
        await self.kill(grace)

    def close(self) -> None:
        """A held shell ends without having begun."""
        if self.process.alive and not self.process.begun:
            self.process.die(None)


class World:
    """The machine, and the daemon while one runs."""

    def __init__(self, root: str) -> None:
        """`root` is a directory of its own."""
        self.root = root
        self.processes: dict[tuple[str, int], Process] = {}
        self.codes: dict[tuple[str, int], tuple[bool, int | None]] = {}
        """How each attempt ended, for ever: whether it had begun, and with which code."""
        self.begun: Counter[tuple[str, int]] = Counter()
        """How often each attempt was told to begin."""
        self.disk_full = False
        self.start_fails = False
        self.stubborn = False
        self.crash_in = 0
        self.crashed = False
        self.wall_offset = 0.0
        self.daemon: Life | None = None

    # What the code under test sees of the world.

    def crash_point(self, name: str) -> None:
        """Die here if it is time, and write nothing more once dead."""
        if self.crashed:
            raise CrashError
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                self.crashed = True
                raise CrashError
        if name == "before-commit" and self.disk_full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    def time_ns(self) -> int:
        """The wall clock, which runs with trio's until someone sets it."""
        return round((1_500_000_000 + trio.current_time() + self.wall_offset) * 1e9)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the daemon's code meet this world's clock and crash points instead of the real ones."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rised.clock, "time", self)
            for name, module in list(sys.modules.items()):
                if name.startswith("rised.") and hasattr(module, "crash_point"):
                    patch.setattr(module, "crash_point", self.crash_point)
            yield

    # What happens in it.

    def reboot(self) -> None:
        """All processes are gone, without a word."""
        assert self.daemon is None
        for process in self.processes.values():
            if process.alive:
                process.die(None)
            process.remove_leftovers()

    def alive(self) -> list[Process]:
        """Every process that has begun and of which anything is alive."""
        return [process for process in self.processes.values() if process.begun and process.there]


class FakeRunner:
    """Runs jobs in a `World`."""

    isolation = "none"

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        return True

    def __init__(self, world: World) -> None:
        """The jobs are the world's and stay there when the daemon goes."""
        self._world = world

    def starts_at_once(self, job: Job) -> bool:
        """Every other experiment's project is small."""
        return int(job.id.partition(".")[0]) % 2 == 1

    async def start(self, job: Job) -> FakeHandle:
        """As a real one: the job is there, and waits."""
        await trio.lowlevel.checkpoint()
        world, key = self._world, (job.id, job.attempt)
        if world.disk_full:
            raise StorageFull("no room")
        if world.start_fails:
            raise StartFailed("there is no /bin/sh")
        process = world.processes[key] = Process(key, (), world.stubborn)
        return FakeHandle(world, process, adopted=False)

    async def adopt(self, job: Job, identity: JobIdentity) -> FakeHandle:
        """Find it by what `identity` says alone."""
        await trio.lowlevel.checkpoint()
        assert identity == _identity(job.id, job.attempt)
        process = self._world.processes[job.id, job.attempt]
        return FakeHandle(self._world, process, adopted=True)

    async def clean(self, job: Job) -> None:
        """Its exit file goes with the rest. Nothing of it may be alive."""
        process = self._world.processes.pop((job.id, job.attempt), None)
        if process:
            assert not process.there, f"{process.key} was cleaned away alive"
            self._world.codes[process.key] = process.begun, process.code
        await trio.lowlevel.checkpoint()

    def remove_leftovers(self, kept: Mapping[str, JobIdentity]) -> None:
        """Drop what no row names; only what never began may be among it."""
        for key, process in list(self._world.processes.items()):
            if f"{key[0]}.{key[1]}" not in kept:
                assert not (process.begun and process.there), f"{key} was forgotten alive"
                del self._world.processes[key]
                self._world.codes[key] = process.begun, process.code

    def close(self) -> None:
        """Holds nothing."""


class FakeRevisions:
    """Working copies that are always there already."""

    async def checkout(self, user: str, project: str, revision: str) -> str:
        """A path that nobody looks at."""
        await trio.lowlevel.checkpoint()
        return "/nowhere"

    def trees(self) -> list[tuple[str, str, str]]:
        """None is there that nobody uses."""
        return []

    async def discard(
        self, user: str, project: str, revision: str, wanted: Callable[[], bool] = bool
    ) -> None:
        """Nothing to remove."""
        await trio.lowlevel.checkpoint()


class FakeWatcher:
    """Watches no log."""

    def add(self, log: str, notify: Callable[[], None]) -> "FakeWatcher":
        """The watch."""
        return self

    def close(self) -> None:
        """Its end."""


class QuickDatabase(Database):
    """The real one, but for the waiting for the disk."""

    async def sync(self) -> None:
        """A real flush is another thread's work, which the tests could not wait for."""
        await trio.lowlevel.checkpoint()

    async def sync_start(self) -> None:
        """As `sync`."""
        await trio.lowlevel.checkpoint()


class Life:
    """One life of a daemon, between a start and a crash."""

    def __init__(self, world: World, gpus: int, nursery: trio.Nursery) -> None:
        """Its parts are put together as the daemon's are; what stands in for the machine is the world's."""
        self.world = world
        self.nursery = nursery
        self.database = QuickDatabase(world.root)
        settings = Settings(
            state_dir=world.root,
            output_dir=os.path.join(world.root, "output"),
            data_dir=world.root,
            cpus=8.0,
            mem=8000,
            kill_grace=GRACE,
            min_free=0,
            gpu_foreign_mem=0,
        )
        engine, devices = Engine({}), [GpuDevice(index) for index in range(gpus)]
        share = FairShare(86_400.0, self.database.usage.all())
        self.transitions = Transitions(self.database, Subscriptions(), share)
        services = Services(
            database=self.database,
            transitions=self.transitions,
            runner=FakeRunner(world),
            revisions=FakeRevisions(),  # type: ignore[arg-type]  # they stand in for it
            watcher=FakeWatcher(),  # type: ignore[arg-type]
            settings=settings,
            gpu_uuids=dict.fromkeys(range(gpus)),
        )
        pipes = OutputPipes(world.root, Children())
        containers = ContainerRunner(world.root, "0" * 32, engine, pipes)
        images = Images(engine, containers, services.revisions)
        context = build_context(services, images, share, devices)
        self.context, self.scheduler, self.views = context, context.scheduler, context.views
        services.runner.remove_leftovers(services.unended_jobs())

    async def submit(self, text: str) -> int:
        """What the API's handler does; returns the number that is told to the client."""
        config = parse_config(text)
        row = ExperimentRow(
            id=0,
            user="u",
            uid=0,
            project=config.project,
            revision="f" * 40,
            config=text,
            config_file="riseml.yml",
            env="{}",
            members=config.count,
            state=State.PENDING,
            created_ms=now_ms(),
        )
        experiment = self.transitions.submit(row, config)
        self.scheduler.add(experiment)
        await self.database.sync()
        self.world.crash_point("before-acknowledge")
        return experiment.number

    async def change(self, number: int, **facts: int) -> None:
        """What the API's handler does to one that has not ended."""
        if experiment := self.scheduler.experiments.get(number):
            row = experiment.row._replace(**facts)  # type: ignore[arg-type]  # they are ints
            await self.scheduler.unfinished.change(experiment, row)


class Theatre:
    """Runs a `World` and the daemons in it on a trio of its own, for a caller in another thread.

    Every call returns when nothing more happens by itself.
    """

    def __init__(self, root: str) -> None:
        """Everything ends with `close`."""
        self.world = World(root)
        self._clock = trio.testing.MockClock()
        self._stack = ExitStack()
        self._stack.enter_context(self.world.in_place())
        self._begun = threading.Event()
        self._failure: BaseException | None = None
        self._pending: list[Callable[[], object]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._begun.wait()

    def _run(self) -> None:
        try:
            trio.run(self._main, clock=self._clock, strict_exception_groups=True)
        except BaseException as error:  # noqa: BLE001 - whoever waits for this thread gets it
            self._failure = error

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._over = trio.Event()
        async with trio.open_nursery() as self._nursery:
            self._begun.set()
            await self._over.wait()
            self._nursery.cancel_scope.cancel()

    @property
    def failed(self) -> bool:
        """Whether a daemon has ended as none should."""
        return self._failure is not None

    def close(self) -> None:
        """End all of it."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._over.set)
        self._thread.join()
        self._stack.close()

    def look(self, at: Callable[["Life"], T]) -> T:
        """Call `at` with the daemon, in the thread where its database may be used."""
        daemon = self.world.daemon
        assert daemon is not None
        return trio.from_thread.run_sync(at, daemon, trio_token=self._token)

    def do(self, action: Callable[[], object]) -> None:
        """Let something happen in the world."""
        try:
            trio.from_thread.run(self._do, action, trio_token=self._token)
        except (trio.Cancelled, trio.RunFinishedError):
            self._thread.join()
            raise AssertionError("the daemon failed") from self._failure

    async def _do(self, action: Callable[[], object]) -> None:
        action()
        while self._pending:
            self._pending.pop(0)()
        await self._calm()

    async def _calm(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        if self.world.crashed and self.world.daemon:
            self.world.daemon.nursery.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
        if self.world.daemon is None:
            self.world.crashed, self.world.crash_in = False, 0

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self.do(lambda: self._clock.jump(seconds))

    def ask(
        self, request: Callable[["Life"], Awaitable[T]], *, ticks: int = 0, calm: bool = True
    ) -> "Answer[T]":
        """Ask the daemon for something, `ticks` turns of its loop from now.

        The answer may come later, or never, if it dies first. Without `calm` what is done next is done at once.
        """
        answer: Answer[T] = Answer()
        daemon = self.world.daemon
        assert daemon is not None

        async def wait() -> None:
            try:
                for _ in range(ticks):
                    await trio.lowlevel.checkpoint()
                answer.value = await request(daemon)
            except RisemlError as error:
                answer.error = error
            answer.came = not self.world.crashed  # the dead tell nothing

        if calm:
            self.do(lambda: daemon.nursery.start_soon(wait))
        else:
            self._pending.append(lambda: daemon.nursery.start_soon(wait))
        return answer

    def boot(self, gpus: int) -> None:
        """Start a daemon."""
        self.do(lambda: self._nursery.start_soon(self._live, gpus))

    def crash(self) -> None:
        """Kill the daemon, at a moment when nothing happens."""

        def die() -> None:
            self.world.crashed = True

        self.do(die)

    async def _live(self, gpus: int) -> None:
        world = self.world
        with suppress_crash(world), ExitStack() as stack:
            async with trio.open_nursery() as nursery:
                world.daemon = Life(world, gpus, nursery)
                stack.enter_context(closing(world.daemon.database))
                nursery.start_soon(world.daemon.scheduler.run)
        world.daemon = None
        for process in world.processes.values():
            if process.alive and not process.begun:  # its shell reads an end of file
                process.die(None)


@dataclass
class Answer(Generic[T]):
    """What a daemon answered."""

    came: bool = False
    value: T | None = None
    error: RisemlError | None = None


@contextmanager
def suppress_crash(world: World) -> Iterator[None]:
    """Let a crash end here.

    A real one ends all of a daemon at once. Here its other tasks take another step before they are cancelled, with what
    is in memory behind what is on disk; none of that happens, and none of it can be committed any more.
    """
    try:
        yield
    except* CrashError:
        pass
    except* Exception:
        if not world.crashed:
            raise
