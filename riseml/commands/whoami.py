"""Show who the daemon takes you for.

It asks the kernel, so there is nothing to log in to.

    $ riseml whoami
    paul (uid 1000) on box
"""

import argparse

from riseml.commands import add_json, show
from riseml.transport.daemon import connect
from riseml_proto.messages import Whoami


def configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with connect(args.host) as client:
        who = client.get("/v1/whoami", Whoami)
    return show(args, who, [f"{who.user} (uid {who.uid}) on {who.host}"])
