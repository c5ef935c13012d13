"""Let an experiment go on that `riseml pause` has stopped; it takes its old place in the queue.

`--json` prints what `riseml set` prints.
"""

import argparse

from riseml.commands import add_ids, add_json, change
from riseml_proto.messages import Change


def configure(parser: argparse.ArgumentParser) -> None:
    add_ids(parser, "+")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    request = Change(ids=args.ids, paused=False)
    return change(args, request, "resumed experiment {}")
