"""Copy files between this machine and an output directory or the data directory.

    $ riseml cp output://144.2/model.pt .
    $ riseml cp -r images data://

One of the two is on this machine. As with `cp`, what is there is overwritten, and into a directory it
goes under its own name. A file appears in its place when all of it is there; until then it has a hidden
name beside it.

A file of 1 MiB or more that was cut off, by Ctrl+C, a lost connection or a crash of either side, is gone
on with by the same command, unless it has changed. With `-r`, files that are there with their size and
time are not copied again.

Links are copied as links. FIFOs, sockets and devices are left out, which the exit code 2 says.
"""

import argparse
import errno
import os
import sys

from riseml.progress import Bar
from riseml.screen import notice
from riseml.transport.daemon import connect
from riseml_proto import uris
from riseml_proto.errors import DaemonError, InvalidInput, StorageFull

_AGAIN = "the same command goes on from there"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="a URI such as output://144.2/x, or a file")
    parser.add_argument("target", metavar="DST", help="the other of the two")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="directories, with all in them"
    )


def run(args: argparse.Namespace) -> int:
    """Return 2 if some files could not be copied, 130 after Ctrl+C."""
    source = uris.parse(args.source) if uris.is_remote(args.source) else None
    target = uris.parse(args.target) if uris.is_remote(args.target) else None
    if source and target:
        raise InvalidInput(
            "both are the daemon's; copy to a directory here first, and from there to where it goes"
        )
    if not (source or target):
        raise InvalidInput(
            "neither is the daemon's; say one such as output://144.2/model.pt or data://images"
        )
    if not (args.source and args.target):
        raise InvalidInput("a name may not be empty; . is this directory")
    from riseml.transfer.download import download
    from riseml.transfer.upload import upload

    left_out = list[str]()

    def warn(text: str) -> None:
        left_out.append(text)
        notice(text)

    try:
        with connect(args.host) as client, Bar() as bar:
            if source:
                path = os.fsencode(args.target)
                download(client, source, path, recursive=args.recursive, warn=warn, bar=bar)
            elif target:
                path = os.fsencode(args.source)
                upload(client, path, target, recursive=args.recursive, warn=warn, bar=bar)
    except KeyboardInterrupt:
        print(f"\nriseml: stopped; what has come so far is kept, and {_AGAIN}", file=sys.stderr)
        return 130
    except DaemonError as error:
        raise DaemonError(f"{error}; what has come so far is kept, and {_AGAIN}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(
            f"{args.target}: no room left on this disk; free some, and {_AGAIN}"
        ) from None
    return 2 if left_out else 0
