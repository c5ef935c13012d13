"""Remove files that jobs have written, or data, with your own rights on the server.

riseml rm output://144.2/checkpoints/epoch-1.pt
riseml rm -r output://144/
"""

import argparse

from riseml.commands import add_json, print_json
from riseml.daemon import connect
from riseml.progress import plural
from riseml_proto import uris
from riseml_proto.file_messages import Remove, Removed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml rm`."""
    parser.add_argument("uris", nargs="+", metavar="URI", help="such as output://144.2/model.pt")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="directories, with all in them"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Remove them; all URIs are understood before anything is removed."""
    asked = [str(uris.parse(text)) for text in args.uris]
    with connect(args.host) as client:
        answer = client.post(
            "/v1/files/remove", Remove(uris=asked, recursive=args.recursive), Removed, patient=True
        )
    if args.json:
        print_json(answer)
    else:
        print(f"removed {plural(answer.removed, 'file')}")
    return 0
