"""Start no more of an experiment until `riseml resume`; what runs of it goes on.

It stays paused when the daemon starts again. `--json` prints what `riseml set` prints.
"""

import argparse

from riseml.commands import add_ids, add_json, change
from riseml_proto.messages import Change


def configure(parser: argparse.ArgumentParser) -> None:
    add_ids(parser, "+")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    request = Change(ids=args.ids, paused=True)
    return change(args, request, "paused experiment {}")
