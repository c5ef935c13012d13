"""Show what waits, everybody's, in the order of the turns, and when each is expected to start.

    POS ID  USER PROJECT PRIORITY GPUS LEFT EXPECTED      WHY
    1   144 paul toaster 0        1    6    now           waits for 1 GPU (0 fr…
    2   147 eva  speech  5        4    1    2 hour(s)     waits for 4 GPUs (0 f…
    3   145 paul toaster -3       1    80   -             waits for its turn af…

`GPUS` is what each sub-experiment needs, `LEFT` how many have still to be started. `EXPECTED` is when
the next of them starts at the latest, as far as time limits tell: `-` where something that has no
`time_limit` is before it. docs/daemon.md#which-job-is-next tells how the order is decided.

`--json` prints one object with `drained` (why nothing starts, or null) and `experiments`, a list of
`position`, `id`, `user`, `project`, `priority`, `gpus`, `left`, `expected`, `why` and `waits_for` (the
same as data).
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime

from riseml.commands import add_json, show
from riseml.screen import age, clean, columns
from riseml.table import AGE, render
from riseml.transport.daemon import connect
from riseml_proto.messages import Queue, Queued


def configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with connect(args.host) as client:
        queue = client.get("/v1/queue", Queue)
        now = client.now
    if queue.experiments or not sys.stdout.isatty():
        lines = _table(queue.experiments, now)
    else:
        lines = ["Nothing waits; riseml status shows what runs"]
    return show(args, queue, lines)


def _table(waiting: Sequence[Queued], now: datetime) -> list[str]:
    expected = f"{'EXPECTED':<{len(AGE)}}"
    titles = ["POS", "ID", "USER", "PROJECT", "PRIORITY", "GPUS", "LEFT", expected, "WHY"]
    rows = [
        [
            str(one.position),
            one.id,
            one.user,
            one.project,
            str(one.priority),
            str(one.gpus),
            str(one.left),
            _expected(one, now),
            clean(one.why or "-", colour=False),
        ]
        for one in waiting
    ]
    return render(titles, rows, width=columns(sys.stdout))


def _expected(one: Queued, now: datetime) -> str:
    if one.expected is None:
        return "-"
    return "now" if one.expected <= now else age(now, one.expected)
