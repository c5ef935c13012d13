"""The protocol between the life of a sub-experiment and the runner that runs its job.

The order that makes a crash of the daemon harmless at any instant:

    handle = await runner.start(job)   the job exists but must wait
    (handle.identity is committed)     from here on a restarted daemon finds it
    handle.begin(gpus)                 it may begin
    await handle.wait()                it ended by itself, or
    await handle.kill(grace)           it is made to end
    await handle.settle(grace)         nothing of it is left
    await runner.clean(job)            nor of its files

A job whose daemon died before `go` ends by itself without having begun, and `Exit.begun` says so.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from rised.linux.process_tree import LocalProcesses
from rised.runners.identity import JobIdentity
from rised.users.owner import Owner


class Amounts(NamedTuple):
    """What a job asked for, in CPUs and MiB; 0 for none. `cpus` and `mem` are guarantees."""

    cpus: float = 0.0
    mem: int = 0
    cpus_limit: float = 0.0
    mem_limit: int = 0


class Container(NamedTuple):
    """What a job in a container needs beyond what a plain process needs."""

    image: str
    """ID of the image (`sha256:…`)."""
    output: str
    """Path of its output directory, `/output` for it."""
    data: str
    """Path of the data directory, `/data` for it, read-only."""
    gpus: tuple[tuple[int, str | None], ...] = ()
    """Index and UUID (None where nobody knows it) of each GPU that it gets."""
    shm: int = 0
    """MiB of its /dev/shm; the engine's default where 0."""
    has_code: bool = False
    """Whether the image has the project's files in its working directory, and no copy has to be put there."""
    config_file: str = ""
    """Name of the riseml.yml among the project's files, which is put over the one in the image: no image is built
    anew because it changed."""
    build: bool = False
    """Whether it runs as root in an image of which a new one is to be made (`ContainerRunner.commit`)."""


class Job(NamedTuple):
    """One attempt of a job."""

    id: str
    """Canonical ID, `144.2.train`."""
    attempt: int
    commands: Sequence[str]
    """Shell commands, run in turn until one fails; its exit code is the job's."""
    env: Mapping[str, str]
    """The whole environment, but for the value of CUDA_VISIBLE_DEVICES."""
    files: str
    """The project's files, pristine; the job gets a private copy as its working directory."""
    log: str
    """Path of the file that takes its output; exists."""
    owner: Owner
    """With whose rights it runs."""
    container: Container | None = None
    """None for plain processes."""
    amounts: Amounts = Amounts()

    @property
    def key(self) -> str:
        """A file name that no other attempt has."""
        return f"{self.id}.{self.attempt}"


class Exit(NamedTuple):
    """How a job ended."""

    begun: bool
    """Whether its first command was started."""
    code: int | None
    """Its exit code (128 + n for signal n); None where nobody can know."""


class JobHandle(Protocol):
    """A job that was started or adopted."""

    @property
    def identity(self) -> JobIdentity:
        """What `adopt` needs to find it after a restart."""
        ...

    @property
    def is_held(self) -> bool:
        """Whether it is there and waits for leave."""
        ...

    @property
    def local(self) -> LocalProcesses | None:
        """Its processes if they run on the daemon's machine, for any thread; None if they run elsewhere."""
        ...

    def begin(self, visible_gpus: str) -> None:
        """Let it begin, with this CUDA_VISIBLE_DEVICES. Not for an adopted one."""
        ...

    async def wait(self) -> Exit:
        """Return when its main process has ended."""
        ...

    async def kill(self, grace: float) -> None:
        """Ask all of its processes to end, and after `grace` seconds make them."""
        ...

    async def settle(self, grace: float) -> None:
        """End whatever its main process left behind, as `kill` does; return when nothing of it is left."""
        ...

    def close(self) -> None:
        """Let go of it without touching it; it runs on."""
        ...


class Runner(Protocol):
    """One way to run jobs."""

    @property
    def isolation(self) -> str:
        """How a job's processes are kept together, for `riseml system info`."""
        ...

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        """Whether `start` may come long before `go`, when nobody knows yet which `gpus` GPUs the job will get."""
        ...

    def starts_at_once(self, job: Job) -> bool:
        """Whether `start` takes milliseconds, so that nobody needs to be told of it before."""
        ...

    async def start(self, job: Job) -> JobHandle:
        """Prepare and start `job`, held back until `go`. Raises `StartFailed` or `StorageFull`."""
        ...

    async def adopt(self, job: Job, identity: JobIdentity) -> JobHandle:
        """Take back a job that an earlier daemon started, whether it still runs or not."""
        ...

    async def clean(self, job: Job) -> None:
        """Remove its working directory and other leftovers; its log stays."""
        ...

    def remove_leftovers(self, kept: Mapping[str, JobIdentity]) -> None:
        """Remove the leftovers of every job but those in `kept`, `Job.key` → `JobHandle.identity`. Once, at first."""
        ...

    def close(self) -> None:
        """Let go of what the runner holds; jobs run on."""
        ...
