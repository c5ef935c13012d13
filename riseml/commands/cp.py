"""Copy files between this machine and where jobs read and write.

  riseml cp output://144.2/model.pt .
  riseml cp -r output://144/ results
  riseml cp -r images data://

What is there already is overwritten. Of a large file that was cut off, the same command copies the rest.
"""

import argparse
import os
import sys

from riseml.commands import add_json, print_json
from riseml.daemon import connect
from riseml.progress import plural, size_text
from riseml_proto import uris
from riseml_proto.errors import InvalidInput


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml cp`."""
    parser.add_argument("source", metavar="FROM", help="a file here, or output://… or data://…")
    parser.add_argument("to", metavar="TO", help="the same; into it, where it is a directory")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="directories, with all in them"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Copy; exit code 2 where something was left out."""
    down, up = uris.is_remote(args.source), uris.is_remote(args.to)
    if down == up:
        where = (
            "both lie on the server; copy to this machine first" if down else "neither lies there"
        )
        raise InvalidInput(
            f"riseml cp copies between this machine and the server, and {where}; a place there looks"
            " like output://144.2/ or data://"
        )
    place = uris.parse(args.source if down else args.to)
    path = os.fsencode(args.to if down else args.source)
    from riseml import transfer

    shown = _Shown(sys.stderr.isatty() and not args.json)
    try:
        with connect(args.host) as client:
            if down:
                done = transfer.download(
                    client, place, path, recursive=args.recursive, advance=shown.advance
                )
            else:
                done = transfer.upload(
                    client, path, place, recursive=args.recursive, advance=shown.advance
                )
    except KeyboardInterrupt:
        shown.clear()
        print("\nriseml: cut off; the same command copies the rest", file=sys.stderr)
        return 130
    finally:
        shown.clear()
    for problem in done.problems:
        print(f"riseml: {problem}", file=sys.stderr)
    if args.json:
        print_json({"files": done.files, "bytes": done.bytes, "problems": done.problems})
    else:
        print(f"copied {plural(done.files, 'file')}, {size_text(done.bytes)}")
    return 2 if done.problems else 0


class _Shown:
    """How far it is, on a terminal."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._bytes = self._told = 0

    def advance(self, amount: int) -> None:
        """So many bytes more."""
        self._bytes += amount
        if self._live and self._bytes - self._told >= 10_000_000:
            self._told = self._bytes
            print(f"\r\x1b[K{size_text(self._bytes)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave an empty line."""
        if self._live and self._told:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._told = 0
