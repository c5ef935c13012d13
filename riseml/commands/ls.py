"""List what is in an output directory or in the data directory: `output://144.2/`, `data://images`.

    $ riseml ls -l output://144.2/
         51 B 2026-11-24T14:30:12Z model.pt
         63 B 2026-11-24T14:30:12Z riseml-results.jsonl

Names are shown as a URI has them, `%` as `%25`, so that they can be copied into one.
"""

import argparse
import sys

from riseml.commands import add_json
from riseml.transport.daemon import connect
from riseml_proto import paths, uris
from riseml_proto.file_messages import FileInfo, List
from riseml_proto.uris import Remote


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="such as output://144.2/ or data://images")
    parser.add_argument("-l", "--long", action="store_true", help="sizes and times, too")
    parser.add_argument("-r", "--recursive", action="store_true", help="all below it")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Return 2 if some files could not be read."""
    from riseml.transfer.download import listing

    uri = uris.parse(args.uri)
    code, files = 0, list[FileInfo]()
    with connect(args.host) as client:
        for info in listing(client, List(uri=str(uri), recursive=args.recursive)):
            if info.error is not None:
                where = uri.below(paths.unquote(info.path))
                print(f"riseml: {where}: {info.error}", file=sys.stderr)
                code = 2
            if not info.path and info.type == "directory":
                continue  # the directory itself, whose content was asked for
            if args.json:
                files.append(info)
            else:
                print(_line(uri, info, long=args.long))
    if args.json:
        _print(uri, files)
    return code


def _line(uri: Remote, info: FileInfo, *, long: bool) -> str:
    name = uris.show(paths.unquote(info.path) or uri.name)
    if info.type == "directory":
        name += "/"
    elif info.type == "link":
        name += f" -> {uris.show(paths.unquote(info.target or ''))}"
    if not long:
        return name
    from riseml.progress import size_text
    from riseml.screen import stamp

    size = size_text(info.size) if info.type == "file" else info.type
    time = stamp(info.mtime) if info.mtime else "-"
    return f"{size:>9} {time:20} {name}"


def _print(uri: Remote, files: list[FileInfo]) -> None:
    from riseml.commands import print_json

    print_json(
        [
            {
                "uri": str(uri.below(paths.unquote(info.path))),
                "type": info.type,
                "size": info.size,
                "mtime": info.mtime,
                "executable": info.executable,
                "target": info.target,
            }
            for info in files
        ]
    )
