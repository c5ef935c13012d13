"""Show what running sub-experiments use: CPUs, memory, GPUs and their memory.

It shows all of them, those of one experiment, or a single one (`144.2`). CPU and MEM are used/available
|requested: CPUs and GiB that its processes use, that the daemon has to hand out in all, and that
`resources` guarantees. GPU is how busy its GPUs are (the mean), GPU MEM what of their memory is in use.

    ID    PROJECT    STATE     CPU       MEM                GPU GPU MEM
    144.1 ai-toaster RUNNING   1.9/16 |2 12.2/62.8 |4.0 GiB 92% 14.0/80.0 GiB
    144.2 ai-toaster STARTING  -/16 |2   0.0/62.8 |4.0 GiB  0%  0.0/80.0 GiB

With `-g` there is a line for each GPU, with an ID for those that it has:

    ID NAME        UTIL MEM          POWER TEMP BUS ID
    0  NVIDIA A100 90%  3.0/40.0 GiB 251 W 61 C 00000000:07:00.0
    1  NVIDIA A100 95%  1.0/40.0 GiB 250 W 58 C 00000000:0F:00.0

On a terminal the figures are drawn anew in place every second until Ctrl+C, which ends with exit code
0. A daemon that is restarted meanwhile is waited for, up to 30 seconds. Elsewhere they are shown once.

`-`, or `null`, stands for what nobody knows: the GPUs' figures where they are only declared or the
driver does not tell them, and the CPUs of a job that has just begun. CPU counts what ended processes
have used where the job has a control group of its own (always in containers, else see
docs/daemon.md#isolation). Where it has none, a process that ends takes its share with it until its
parent has waited for it. MEM is the sum of the processes' proportional shares (PSS), so that pages which
data loaders share count once.

`--json` prints one object, with `-f` or on a terminal one a line: `time`, `cpus` and `memory` (MiB) that
there are, `jobs` (`cpus_used`, `cpu_seconds`, `memory` in MiB, `processes`, `gpus`, …) and `gpus`
(`util` in percent, `memory` and `total` in MiB, `power` in watts, `temperature` in °C, …).
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from riseml.commands import add_ids, add_json, print_json
from riseml.commands.usage_view import Rates, gpu_lines, job_lines
from riseml.screen import clean, columns, cut, has_colour, size
from riseml.transport.daemon import connect
from riseml.transport.http import Client
from riseml_proto.errors import Unreachable
from riseml_proto.messages import Usage

_FIRST, _INTERVAL = 0.5, 1.0  # seconds between two samples


def configure(parser: argparse.ArgumentParser) -> None:
    add_ids(parser, "?", "such as 144 or 144.2 (all that runs)")
    parser.add_argument("-g", "--gpu", action="store_true", help="the GPUs, one by one")
    often = parser.add_mutually_exclusive_group()
    often.add_argument("--once", action="store_true", help="once, on a terminal too")
    often.add_argument(
        "-f", "--follow", action="store_true", help="every second, into a file or pipe too"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    drawn = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not args.json
    live = args.follow or (sys.stdout.isatty() and not args.once)
    try:
        _show(args, _Picture(sys.stdout) if live and drawn else None, live=live)
    except KeyboardInterrupt:
        if not live:
            raise
        if drawn:
            print()  # after the terminal's ^C
    return 0


def _show(args: argparse.Namespace, picture: "_Picture | None", *, live: bool) -> None:
    rates = Rates()
    lines: list[str] = []
    started = False
    with connect(args.host) as client:
        for sample in _samples(client, args.id):
            if isinstance(sample, str):
                if picture:
                    picture.draw([*lines, sample])
                continue
            cpus = rates.of(sample)
            first, started = not started, True
            if first and sample.jobs and (args.json or not args.gpu):
                continue  # the CPUs of a job are computed from two samples
            if args.json:
                print_json(_plain(sample, cpus, client.now), indent=-1 if live else 2)
            else:
                lines = _lines(args, sample, cpus)
                if picture:
                    picture.draw(lines)
                else:
                    print("\n".join(lines) + "\n" * live, flush=True)
            if not live:
                return


def _samples(client: Client, wanted: str | None) -> Iterator[Usage | str]:
    """A sample every second; while a daemon that has answered once does not, the text that says so."""
    query = {"id": wanted} if wanted else None
    yield client.get("/v1/usage", Usage, query)
    answered = time.monotonic()
    pause = _FIRST
    while True:
        time.sleep(pause)
        pause = _INTERVAL
        try:
            sample = client.get("/v1/usage", Usage, query)
        except Unreachable as error:
            if time.monotonic() - answered > error.patience:
                raise
            yield error.notice
        else:
            answered = time.monotonic()
            yield sample


def _lines(args: argparse.Namespace, now: Usage, cpus: Mapping[str, float | None]) -> list[str]:
    out = sys.stdout
    width = columns(out)
    if args.gpu:
        own = {index for job in now.jobs for index in job.gpus}
        gpus = [gpu for gpu in now.gpus if args.id is None or gpu.index in own]
        if gpus:
            return gpu_lines(gpus, width=width)
        return ["No GPUs" if args.id is None else f"Nothing of {args.id} has a GPU"]
    if not now.jobs and (args.id is not None or out.isatty()):
        return ["Nothing runs" if args.id is None else f"Nothing of {args.id} runs"]
    return job_lines(now, cpus, width=width, colour=has_colour(out, os.environ))


def _plain(now: Usage, cpus: Mapping[str, float | None], read_at: datetime) -> dict[str, Any]:
    from msgspec.structs import asdict

    jobs = []
    for job in now.jobs:
        used = cpus[job.id]
        jobs.append({**asdict(job), "cpus_used": None if used is None else round(used, 3)})
    return {**asdict(now), "time": read_at, "jobs": jobs}


class _Picture:
    """Lines at the bottom of a terminal that are drawn again and again in the same rows."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn: list[str] = []

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines drawn before by `lines`, as many as the terminal has rows for."""
        width, height = size(self._out)
        room = max(2, height - 1)
        shown = [cut(line, width) for line in lines]
        if len(shown) > room:
            left = len(shown) - room + 1
            shown[room - 1 :] = [cut(f"… {left} more; --once shows all", width)]
        # A terminal that became narrower has wrapped the lines drawn before.
        rows = sum(-(-max(1, len(line)) // width) for line in self._drawn)
        up = f"\x1b[{min(rows, height - 1)}A" if rows else ""
        self._out.write(up + "".join(f"\r\x1b[K{line}\n" for line in shown) + "\x1b[J")
        self._out.flush()
        self._drawn = [clean(line, colour=False) for line in shown]
