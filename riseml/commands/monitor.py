"""Show what running experiments use: CPUs, memory, GPUs and their memory; with --gpu the GPUs.

CPU and MEM are used/available |requested. On a terminal the figures are renewed every second until
Ctrl+C; elsewhere, or with --once, they are shown once.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from riseml.commands import add_json, print_json
from riseml.daemon import connect
from riseml.http import Unreachable
from riseml.screen import columns, has_colour
from riseml.table import STATE, Column, render
from riseml_proto import ids
from riseml_proto.messages import GpuUse, JobUse, Usage

_FIRST = 0.5
_INTERVAL = 1.0
_PATIENCE = 30
"""Seconds that a daemon may be away."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml monitor`."""
    parser.add_argument("id", nargs="?", metavar="ID", help="such as 144 or 144.2 (all that runs)")
    parser.add_argument("-g", "--gpu", action="store_true", help="the GPUs, one by one")
    parser.add_argument("--once", action="store_true", help="show it once")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show it once, or until a person has seen enough."""
    if args.id is not None:
        ids.parse(args.id)
    out = sys.stdout
    live = out.isatty() and not args.once
    before = _sample(args)
    time.sleep(_FIRST)
    shown = 0
    for now in _samples(args):
        if args.json:
            print_json(_plain(before, now))
        else:
            lines = _picture(
                args, before, now, width=columns(out), colour=has_colour(out, os.environ)
            )
            if live:
                shown = _draw(lines, shown)
            else:
                print("\n".join(lines))
        if not live:
            return 0
        before = now
        time.sleep(_INTERVAL)
    return 0


def _sample(args: argparse.Namespace) -> Usage:
    with connect(args.host) as client:
        return client.get("/v1/usage" + (f"?id={quote(args.id)}" if args.id else ""), Usage)


def _samples(args: argparse.Namespace) -> Iterator[Usage]:
    """One sample after the other; a daemon that is being restarted is waited for."""
    missed = 0
    while True:
        try:
            found = _sample(args)
        except Unreachable:
            missed += 1
            if missed > _PATIENCE:
                raise
            time.sleep(_INTERVAL)
            continue
        missed = 0
        yield found


def _draw(lines: Sequence[str], shown: int) -> int:
    """Draw `lines` over the `shown` ones that stand there, as far as they fit; return how many stand there now."""
    height = os.get_terminal_size(sys.stdout.fileno()).lines
    fitting = lines[: max(1, height - 1)]
    up = f"\x1b[{shown}A" if shown else ""
    sys.stdout.write(up + "".join(f"\r\x1b[K{line}\n" for line in fitting) + "\x1b[J")
    sys.stdout.flush()
    return len(fitting)


def _picture(
    args: argparse.Namespace, before: Usage, now: Usage, *, width: int | None, colour: bool
) -> list[str]:
    if args.gpu:
        return render([Column(t) for t in _GPU_TITLES], [_gpu(g) for g in now.gpus], width=width)
    meters = {gpu.index: gpu for gpu in now.gpus}
    rows = [_row(job, cpus_used(before, now, job), now, meters) for job in now.jobs]
    titles = [Column("ID"), Column("PROJECT"), STATE, Column("CPU"), Column("MEM")]
    return render([*titles, Column("GPU"), Column("GPU MEM")], rows, colour=colour, width=width)


_GPU_TITLES = "ID", "NAME", "UTIL", "MEM", "POWER", "TEMP", "BUS ID"


def cpus_used(before: Usage, now: Usage, job: JobUse) -> float:
    """How many CPUs a job used between two samples; since its start where it is in the second alone."""
    seconds = now.time - before.time
    earlier = next((j.cpu_seconds for j in before.jobs if j.id == job.id), 0.0)
    return max(0.0, job.cpu_seconds - earlier) / seconds if seconds > 0 else 0.0


def _row(job: JobUse, cpus: float, now: Usage, meters: Mapping[int, GpuUse]) -> list[str]:
    own = [meters[index] for index in job.gpus if index in meters]
    return [
        job.id,
        job.project,
        job.state,
        f"{cpus:.1f}/{now.cpus:g} |{job.requested_cpus:g}",
        f"{_gib(job.memory)}/{_gib(now.memory)} |{_gib(job.requested_memory)} GiB",
        _percent([gpu.util for gpu in own]),
        _used_of([gpu.memory for gpu in own], [gpu.total for gpu in own]),
    ]


def _gpu(gpu: GpuUse) -> list[str]:
    return [
        str(gpu.index),
        gpu.name or "-",
        _percent([gpu.util]),
        _used_of([gpu.memory], [gpu.total]),
        "-" if gpu.power is None else f"{gpu.power:.0f} W",
        "-" if gpu.temperature is None else f"{gpu.temperature} C",
        gpu.bus_id or "-",
    ]


def _percent(utils: Sequence[int | None]) -> str:
    known = [util for util in utils if util is not None]
    return f"{sum(known) / len(known):.0f}%" if known else "-"


def _used_of(used: Sequence[int | None], total: Sequence[int | None]) -> str:
    if not used or None in used or None in total:
        return "-"
    return f"{_gib(sum(filter(None, used)))}/{_gib(sum(filter(None, total)))} GiB"


def _gib(mebibytes: float) -> str:
    return f"{mebibytes / 1024:.1f}"


def _plain(before: Usage, now: Usage) -> dict[str, object]:
    from msgspec.structs import asdict

    jobs = [{**asdict(job), "cpus": round(cpus_used(before, now, job), 3)} for job in now.jobs]
    return {**asdict(now), "jobs": jobs}
