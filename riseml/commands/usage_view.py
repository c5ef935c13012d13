"""Resource usage of running jobs and of GPUs, as figures and as tables. Pure."""

from collections.abc import Mapping, Sequence

from riseml.screen import clean, cut
from riseml.table import STATE, render
from riseml_proto.messages import GpuUse, JobUse, Usage

_LEAST_NAME = 8
"""Characters that a name keeps on a narrow terminal."""


class Rates:
    """How many CPUs each job uses, computed from two samples."""

    def __init__(self) -> None:
        self._time = 0.0
        self._last: dict[str, float] = {}
        self._most: dict[str, float] = {}

    def of(self, now: Usage) -> dict[str, float | None]:
        """ID → CPUs in use since the sample before; None for a job that was not in that sample."""
        alive = [job for job in now.jobs if job.processes]
        rates = {job.id: self._rate(job, now.time - self._time) for job in alive}
        self._time = now.time
        self._last = {job.id: job.cpu_seconds for job in alive}
        self._most = {job.id: max(job.cpu_seconds, self._most.get(job.id, 0.0)) for job in alive}
        return {job.id: rates.get(job.id) for job in now.jobs}

    def _rate(self, job: JobUse, seconds: float) -> float | None:
        """CPUs in use by `job` over `seconds`.

        `cpu_seconds` falls when a process ends, and rises again when its parent collects it. That
        time was counted before, so only time beyond the highest sum counts.
        """
        if job.id not in self._last or seconds <= 0:
            return None
        most = self._most[job.id]
        before = most if job.cpu_seconds >= most else self._last[job.id]
        return max(0.0, job.cpu_seconds - before) / seconds


def job_lines(
    now: Usage,
    cpus: Mapping[str, float | None],
    *,
    width: int | None = None,
    colour: bool = False,
) -> list[str]:
    """A line per job. Where the table is wider than `width`, the projects' names are cut first."""
    meters = {gpu.index: gpu for gpu in now.gpus}
    rows = [_job(job, cpus.get(job.id), now, meters) for job in now.jobs]
    titles = ["ID", "PROJECT", STATE, "CPU", "MEM", "GPU", "GPU MEM"]
    return _fitted(titles, rows, width, colour=colour)


def gpu_lines(gpus: Sequence[GpuUse], *, width: int | None = None) -> list[str]:
    """A line per GPU, with `-` for a value that the driver does not have."""
    titles = ["ID", "NAME", "UTIL", "MEM", "POWER", "TEMP", "BUS ID"]
    return _fitted(titles, [_gpu(gpu) for gpu in gpus], width)


def _fitted(
    titles: list[str], rows: list[list[str]], width: int | None, *, colour: bool = False
) -> list[str]:
    """The table. Where it is too wide, the names in its second column are cut."""
    if width is not None:
        over = max(map(len, render(titles, rows))) - width
        longest = max((len(row[1]) for row in rows), default=0)
        room = max(_LEAST_NAME, longest - over)
        rows = [[row[0], cut(row[1], room), *row[2:]] for row in rows]
    return render(titles, rows, colour=colour, width=width)


def _job(job: JobUse, cpus: float | None, now: Usage, meters: Mapping[int, GpuUse]) -> list[str]:
    own = [meters[index] for index in job.gpus if index in meters]
    return [
        job.id,
        job.project,
        job.state,
        f"{'-' if cpus is None else f'{cpus:.1f}'}/{now.cpus:g} |{job.requested_cpus:g}",
        f"{_gib(job.memory)}/{_gib(now.memory)} |{_gib(job.requested_memory)} GiB",
        _percent([gpu.util for gpu in own]),
        _used_of([gpu.memory for gpu in own], [gpu.total for gpu in own]),
    ]


def _gpu(gpu: GpuUse) -> list[str]:
    return [
        str(gpu.index),
        clean(gpu.name or "-", colour=False),
        _percent([gpu.util]),
        _used_of([gpu.memory], [gpu.total]),
        "-" if gpu.power is None else f"{gpu.power:.0f} W",
        "-" if gpu.temperature is None else f"{gpu.temperature} C",
        gpu.bus_id or "-",
    ]


def _percent(utils: Sequence[int | None]) -> str:
    """The mean of the utilisations that are known."""
    known = [util for util in utils if util is not None]
    return f"{sum(known) / len(known):.0f}%" if known else "-"


def _used_of(used: Sequence[int | None], total: Sequence[int | None]) -> str:
    """The sums in GiB, or `-` where one amount is not known."""
    if not used or None in used or None in total:
        return "-"
    return f"{_gib(sum(filter(None, used)))}/{_gib(sum(filter(None, total)))} GiB"


def _gib(mebibytes: float) -> str:
    return f"{mebibytes / 1024:.1f}"
