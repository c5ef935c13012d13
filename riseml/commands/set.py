"""Change an experiment's priority among your own, or how many sub-experiments of a set may run at once.

The experiment must be yours and not have ended; administrators change everybody's. Running
sub-experiments are left alone: after a lower concurrency, none starts until enough have ended.

    $ riseml set 144 --concurrency 4
    experiment 144: concurrency 4

`--json` prints a list of objects with `id`, `priority`, `concurrency` and `paused`.
"""

import argparse

from riseml.commands import add_ids, add_json, add_priority, change
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Change


def configure(parser: argparse.ArgumentParser) -> None:
    add_ids(parser, "+")
    parser.add_argument(
        "--concurrency",
        type=_count,
        metavar="N",
        help="how many sub-experiments may run at once, 1 or more",
    )
    add_priority(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    names = "concurrency", "priority"
    said = [f"{name} {{standing.{name}}}" for name in names if getattr(args, name) is not None]
    if not said:
        raise InvalidInput("nothing is to be changed; say --concurrency N or --priority N")
    request = Change(ids=args.ids, priority=args.priority, concurrency=args.concurrency)
    return change(args, request, "experiment {}: " + ", ".join(said))


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, not {text!r}")
    return int(text)
