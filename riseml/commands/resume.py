"""Let an experiment go on that `riseml pause` has stopped; it takes its old place in the queue.

`--json` prints what `riseml set` prints.
"""

import argparse

from riseml.commands import add_json, change
from riseml_proto import ids
from riseml_proto.messages import Change


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml resume`."""
    parser.add_argument("ids", nargs="+", metavar="ID", help="such as 144")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Resume them."""
    for text in args.ids:
        ids.parse(text)
    request = Change(ids=args.ids, paused=False)
    return change(args.host, request, "resumed experiment {}", as_json=args.json)
