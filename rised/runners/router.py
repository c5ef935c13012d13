"""The runner of each job: containers for those that have an image, plain processes for the others."""

from collections.abc import Mapping

from rised.runners.base import Job, JobHandle, Runner
from rised.runners.docker.runner import ContainerRunner
from rised.runners.identity import JobIdentity
from rised.runners.process.runner import ProcessRunner


class RunnerRouter:
    """All runners as one, which gives each job to its own."""

    def __init__(self, processes: ProcessRunner, containers: ContainerRunner) -> None:
        self._processes = processes
        self._containers = containers

    def _of(self, job: Job) -> Runner:
        return self._containers if job.container else self._processes

    @property
    def isolation(self) -> str:
        """That of plain processes. A container always holds all of its processes."""
        return self._processes.isolation

    def starts_ahead(self, job: Job, gpus: int) -> bool:
        """As the job's runner says."""
        return self._of(job).starts_ahead(job, gpus)

    def starts_at_once(self, job: Job) -> bool:
        """As the job's runner says."""
        return self._of(job).starts_at_once(job)

    async def start(self, job: Job) -> JobHandle:
        """Let the job's runner start it."""
        return await self._of(job).start(job)

    async def adopt(self, job: Job, identity: JobIdentity) -> JobHandle:
        """Let the job's runner take it back."""
        return await self._of(job).adopt(job, identity)

    async def clean(self, job: Job) -> None:
        """Let the job's runner remove its files."""
        await self._of(job).clean(job)

    def remove_leftovers(self, kept: Mapping[str, JobIdentity]) -> None:
        """Let each runner remove its own leftovers."""
        self._processes.remove_leftovers(kept)
        self._containers.remove_leftovers(kept)

    def close(self) -> None:
        """Close each runner; jobs run on."""
        self._processes.close()
        self._containers.close()
