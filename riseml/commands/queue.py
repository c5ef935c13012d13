"""Show what waits, everybody's, in the order of the turns, and when each is expected to start.

What is expected follows from time limits, so it is a latest time; - stands where something without
a limit is before it.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from riseml.commands import add_json, print_json
from riseml.screen import age, clean, columns
from riseml.table import AGE, ID, Column, render
from riseml.transport.daemon import connect
from riseml_proto.messages import Queue, Queued


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml queue`."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    with connect(args.host) as client:
        queue = client.get("/v1/queue", Queue)
    if args.json:
        print_json(queue)
        return 0
    if queue.experiments or not sys.stdout.isatty():
        lines = table(queue.experiments, datetime.now(UTC), columns(sys.stdout))
    else:
        lines = ["Nothing waits; riseml status shows what runs"]
    print("\n".join(lines))
    return 0


def table(waiting: Sequence[Queued], now: datetime, width: int | None) -> list[str]:
    """A line for each experiment, the next one first."""
    titles = ["POS", "USER", "PROJECT", "PRIORITY", "GPUS", "LEFT"]
    position, *others = (Column(title) for title in titles)
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
    expected = Column("EXPECTED", AGE.width)
    return render([position, ID, *others, expected, Column("WHY")], rows, width=width)


def _expected(one: Queued, now: datetime) -> str:
    if one.expected is None:
        return "-"
    return "now" if one.expected <= now else age(now, one.expected)
