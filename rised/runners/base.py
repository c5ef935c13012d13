"""The protocol of a runner, which is one way to run jobs, and of a handle, which stands for one job.

This order makes a crash of the daemon harmless at any instant:

    handle = await runner.start(job)   the job exists and is held
    (handle.identity is committed)     from here on a restarted daemon finds it
    handle.begin(gpus)                 the start signal: its commands run
    await handle.wait()                it ended by itself, or
    await handle.kill(grace)           it is made to end
    await handle.settle(grace)         none of its processes is left
    await runner.clean(job)            none of its files is left, but its log and its outputs

If the daemon dies before `begin`, the job ends by itself without having begun, and `Exit.begun` says so.
"""

import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from rised.linux.process_tree import LocalProcesses
from rised.runners.identity import JobIdentity
from rised.users.owner import Owner


class JobResources(NamedTuple):
    """What a job asked for, in CPUs and MiB; 0 for nothing. `cpus` and `mem` are guarantees."""

    cpus: float = 0.0
    mem: int = 0
    cpus_limit: float = 0.0
    mem_limit: int = 0


class Container(NamedTuple):
    """What a job in a container needs in addition."""

    image: str
    """ID of the image (`sha256:…`)."""
    output: str
    """Path of its output directory, which it sees as `/output`."""
    data: str
    """Path of the data directory, which it sees as `/data`, read-only."""
    gpus: tuple[tuple[int, str | None], ...] = ()
    """Index and UUID (None if unknown) of each GPU that it gets."""
    shm: int = 0
    """MiB of its /dev/shm; 0 for the engine's default."""
    has_code: bool = False
    """Whether the image has the project's files in its working directory, so that no copy is put there."""
    config_file: str = ""
    """Name of the riseml.yml among the project's files. It covers the one in the image, which need not be built again
    when that file changes."""
    build: bool = False
    """Whether it builds an image: it runs as root, and `ContainerRunner.commit` makes an image of its container."""


class Job(NamedTuple):
    """One attempt of a job."""

    id: str
    """Canonical ID, `144.2.train`."""
    attempt: int
    commands: Sequence[str]
    """Shell commands, run in turn until one fails. The last exit code is the job's."""
    env: Mapping[str, str]
    """The whole environment but for the value of CUDA_VISIBLE_DEVICES."""
    files: str
    """Path of the project's files, pristine. The job gets a private copy as its working directory."""
    log: str
    """Path of the file that takes its output, in a directory that is there."""
    owner: Owner
    """The user with whose rights it runs."""
    container: Container | None = None
    """None for plain processes."""
    resources: JobResources = JobResources()
    shell: Sequence[str] = ()
    """The words of the shell that runs the commands; none for the usual one."""
    stop_signal: str = "SIGTERM"
    """Name of the signal by which it is asked to end."""
    kill_grace: float | None = None
    """Seconds from that to SIGKILL, where the engine ends it; None for the engine's own."""

    @property
    def key(self) -> str:
        """The attempt's unique name, which can be a file name."""
        return f"{self.id}.{self.attempt}"


class Exit(NamedTuple):
    """How a job ended."""

    begun: bool
    """Whether its first command was started."""
    code: int | None
    """Its exit code (128 + n for signal n); None where it cannot be known."""


class JobHandle(Protocol):
    """A job that was started or adopted."""

    @property
    def identity(self) -> JobIdentity:
        """What `Runner.adopt` needs to find the job after a restart."""

    @property
    def is_held(self) -> bool:
        """Whether it is alive and waits for the start signal."""

    @property
    def local(self) -> LocalProcesses | None:
        """Its processes if they run on the daemon's machine, for any thread; None if they run elsewhere."""

    def begin(self, visible_gpus: str) -> None:
        """Send the start signal, with the value of CUDA_VISIBLE_DEVICES. Only for a job that is held."""

    async def wait(self) -> Exit:
        """Return when its main process has ended."""

    async def kill(self, grace: float, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end by `stop_signal`, its main programs first; after `grace` seconds kill all its processes."""

    async def settle(self, grace: float) -> None:
        """End, as `kill` does, what its main process left behind. Return when none of its processes is left."""

    def close(self) -> None:
        """Close what the daemon holds of it. A job that is held ends; one that has begun runs on."""


class Runner(Protocol):
    """One way to run jobs."""

    @property
    def isolation(self) -> str:
        """How the processes of one job are told from those of others, for `riseml system info`."""

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        """Whether `start` may come long before `begin`, when it is not known yet which `gpus` GPUs the job will get."""

    def starts_at_once(self, job: Job) -> bool:
        """Whether `start` takes milliseconds, so that no client needs to see that the job is being started."""

    async def start(self, job: Job) -> JobHandle:
        """Prepare and start `job`, which is held until `begin`. Raises `StartFailed` or `StorageFull`."""

    async def adopt(self, job: Job, identity: JobIdentity) -> JobHandle:
        """Take back a job that an earlier daemon started, whether it still runs or not."""

    async def clean(self, job: Job) -> None:
        """Remove its working directory and other leftovers; its log and its outputs stay."""

    def remove_leftovers(self, kept: Mapping[str, JobIdentity]) -> None:
        """Remove the leftovers of all jobs but those in `kept`, `Job.key` → `JobHandle.identity`. Before any start."""

    def close(self) -> None:
        """Close what the runner holds; jobs run on."""
