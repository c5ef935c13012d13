"""List what is in an output directory or in the data directory: `output://144.2/`, `data://images`.

    $ riseml ls -l output://144.2/
         51 B 2026-11-24T14:30:12Z model.pt
         63 B 2026-11-24T14:30:12Z riseml-results.jsonl

Names are shown as a URI has them, `%` as `%25`, so that they can be copied into one.
"""

import argparse

from riseml.commands import add_json, print_json
from riseml.progress import size_text
from riseml.screen import notice, stamp
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
                notice(f"{uri.below(paths.unquote(info.path))}: {info.error}")
                code = 2
            if not info.path and info.type == "directory":
                continue  # the directory itself, whose content was asked for
            if args.json:
                files.append(info)
            else:
                print(_line(uri, info, long=args.long))
    if args.json:
        print_json([_plain(uri, info) for info in files])
    return code


def _line(uri: Remote, info: FileInfo, *, long: bool) -> str:
    name = uris.show(paths.unquote(info.path) or uri.name)
    if info.type == "directory":
        name += "/"
    elif info.type == "link":
        name += f" -> {uris.show(paths.unquote(info.target or ''))}"
    if not long:
        return name
    size = size_text(info.size) if info.type == "file" else info.type
    time = stamp(info.mtime) if info.mtime else "-"
    return f"{size:>9} {time:20} {name}"


def _plain(uri: Remote, info: FileInfo) -> dict[str, object]:
    names = "type", "size", "mtime", "executable", "target"
    return {
        "uri": str(uri.below(paths.unquote(info.path))),
        **{name: getattr(info, name) for name in names},
    }
