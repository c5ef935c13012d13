"""Start no more of an experiment until `riseml resume`; what runs of it goes on.

It stays paused when the daemon starts again. `--json` prints what `riseml set` prints.
"""

import argparse

from riseml.commands import add_json, change
from riseml_proto import ids
from riseml_proto.messages import Change


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml pause`."""
    parser.add_argument("ids", nargs="+", metavar="ID", help="such as 144")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Pause them."""
    for text in args.ids:
        ids.parse(text)
    request = Change(ids=args.ids, paused=True)
    return change(args.host, request, "paused experiment {}", as_json=args.json)
