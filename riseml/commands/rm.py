"""Remove files from output directories and from the data directory; there is no way back.

    $ riseml rm -r output://144.2/checkpoints/

A link is removed, never what it leads to. `--json` prints how many files and directories were removed,
as `{"removed": 3}`.
"""

import argparse

from riseml.commands import add_json, show
from riseml.transport.daemon import connect
from riseml_proto import uris
from riseml_proto.file_messages import Remove, Removed


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uris", nargs="+", metavar="URI", help="such as output://144.2/model.pt")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="directories, with all in them"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    targets = [str(uris.parse(text)) for text in args.uris]
    with connect(args.host) as client:
        request = Remove(uris=targets, recursive=args.recursive)
        removed = client.post("/v1/files/remove", request, Removed, patient=True)
    return show(args, removed, ())
