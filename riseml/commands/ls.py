"""List what jobs have written, and the data that they read.

riseml ls output://144.2/    the output directory of sub-experiment 2 of 144
riseml ls data://            the data directory
"""

import argparse
import sys

from riseml.commands import add_json, print_json
from riseml.daemon import connect
from riseml_proto import uris


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml ls`."""
    parser.add_argument("uri", metavar="URI", help="such as output://144.2/ or data://images")
    parser.add_argument("-l", "--long", action="store_true", help="sizes and times, too")
    parser.add_argument("-r", "--recursive", action="store_true", help="all that lies below it")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line for each; exit code 2 where something could not be looked at."""
    uri = uris.parse(args.uri)
    from riseml.transfer import listing

    with connect(args.host) as client:
        found = [*listing(client, uri, itself=False, recursive=args.recursive)]
    if found[0].type == "directory":
        found = found[1:]
    if args.json:
        print_json(found)
        return 0
    for info in found:
        path = info.path or uris.show(uri.name)
        end = {"directory": "/", "link": f" -> {info.target}"}.get(info.type, "")
        text = uris.show(path.encode()) if "%" not in path else path
        if args.long:
            when = f"{info.mtime:%Y-%m-%dT%H:%M:%SZ}" if info.mtime else "-"
            print(f"{info.size:>14,} {when:>20} {text}{end}")
        else:
            print(f"{text}{end}")
    for problem in (info for info in found if info.error):
        print(f"riseml: {uri.below(b'')}{problem.path}: {problem.error}", file=sys.stderr)
    return 2 if any(info.error for info in found) else 0
