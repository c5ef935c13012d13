"""The runner of each job: containers for those that have an image, plain processes for the others."""

from collections.abc import Mapping

from rised.runners.base import Job, JobHandle, Runner
from rised.runners.docker.runner import ContainerRunner
from rised.runners.identity import JobIdentity
from rised.runners.process.runner import ProcessRunner


class RunnerRouter:
    """All runners as one, which gives each job to its own. `Runner` says what the methods do."""

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
        return self._of(job).starts_ahead(job, gpus)

    def starts_at_once(self, job: Job) -> bool:
        return self._of(job).starts_at_once(job)

    async def start(self, job: Job) -> JobHandle:
        return await self._of(job).start(job)

    async def adopt(self, job: Job, identity: JobIdentity) -> JobHandle:
        return await self._of(job).adopt(job, identity)

    async def clean(self, job: Job) -> None:
        await self._of(job).clean(job)

    def remove_leftovers(self, kept: Mapping[str, JobIdentity]) -> None:
        self._processes.remove_leftovers(kept)
        self._containers.remove_leftovers(kept)

    def close(self) -> None:
        self._processes.close()
        self._containers.close()
