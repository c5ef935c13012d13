"""Copies from this machine to the daemon.

POST /v1/files          the list of files that are there already
POST /v1/files/part     how many bytes of a large file an earlier copy has brought
POST /v1/files/store    many small files in one request, or a large one from where it was cut off
"""

import os
import stat
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote_plus

import msgspec

from riseml.progress import Bar
from riseml.transfer import Warn, local
from riseml.transfer.batches import batches
from riseml.transfer.download import listing, look
from riseml.transport.http import Client
from riseml_proto import paths
from riseml_proto.errors import InvalidInput, NotFound, SyncError, printable
from riseml_proto.file_messages import List, Part, PartRequest, Stored, Storing
from riseml_proto.uris import PART_PREFIX, Remote

_PIECE = 1 << 18  # bytes sent at once
_BATCH = 1000
_BATCH_BYTES = 64 << 20


class _Item(NamedTuple):
    """A file, directory or link to be sent; `source` is a file's local path, otherwise empty."""

    head: Stored
    source: bytes = b""


def upload(
    client: Client, source: bytes, target: Remote, *, recursive: bool, warn: Warn, bar: Bar
) -> None:
    """Copy `source` to `target`, or into it if it is a directory. Raises `RisemlError`, `OSError`."""
    status = os.stat(source)
    is_tree = stat.S_ISDIR(status.st_mode)
    if is_tree and not recursive:
        raise InvalidInput(f"{printable(source)} is a directory; copy it with -r")
    if not (is_tree or stat.S_ISREG(status.st_mode)):
        raise InvalidInput(f"{printable(source)} is no regular file, so it cannot be copied")
    target, there = _settle(client, source, target, is_tree=is_tree)
    above, _, name = target.path.rpartition(b"/")
    base = Remote(target.experiment, above)
    if is_tree:
        listed = listing(client, List(uri=str(target), recursive=True)) if there else ()
        known = {
            paths.unquote(info.path): (info.size, info.mtime)
            for info in listed
            if info.type == "file"
        }
        items = list(_tree(source, name, known, warn))
    else:
        items = [_Item(_head(status, name), source)]
    bar.start(sum(item.head.size for item in items))
    for batch in batches(
        items, lambda item: item.head.size, count=_BATCH, most=_BATCH_BYTES, alone=local.RESUMABLE
    ):
        _store(client, base, batch, bar)


def _settle(client: Client, source: bytes, target: Remote, *, is_tree: bool) -> tuple[Remote, bool]:
    """The final target, which may lie in the directory `target`, and whether it exists."""
    try:
        info = look(client, target)
        if info.type != "directory":
            if is_tree or target.slash:
                raise InvalidInput(f"{target} is no directory; remove it first, or say another")
            return target, True
    except NotFound:
        if not target.path or (target.slash and not is_tree):
            raise
        return target, False
    inside = target.below(os.path.basename(os.path.abspath(source)))
    try:
        info = look(client, inside)
    except NotFound:
        return inside, False
    if is_tree is not (info.type == "directory"):
        raise InvalidInput(f"{inside} is in the way; remove it first, or say another name")
    return inside, True


def _tree(
    source: bytes, name: bytes, known: dict[bytes, tuple[int, datetime | None]], warn: Warn
) -> Iterator[_Item]:
    """What is to be sent: each directory before its files, without those whose size and time are `known`."""
    yield _Item(Stored(path=paths.quote(name), type="directory"))
    todo = [b""]
    while todo:
        folder = todo.pop()
        with os.scandir(os.path.join(source, folder)) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
        for entry in children:
            path = os.path.join(folder, entry.name)
            sent = paths.quote(name + b"/" + path)
            status = entry.stat(follow_symlinks=False)
            if entry.is_symlink():
                yield _Item(
                    Stored(path=sent, type="link", target=paths.quote(os.readlink(entry.path)))
                )
            elif entry.is_dir():
                yield _Item(Stored(path=sent, type="directory"))
                todo.append(path)
            elif not entry.is_file():
                warn(f"{printable(entry.path)} is no regular file and was left out")
            elif not entry.name.startswith(PART_PREFIX):
                head = _head(status, name + b"/" + path)
                if known.get(path) != (head.size, head.mtime):
                    yield _Item(head, entry.path)


def _head(status: os.stat_result, path: bytes) -> Stored:
    return Stored(
        path=paths.quote(path),
        size=status.st_size,
        version=f"{status.st_mtime_ns:x}.{status.st_ino:x}.{status.st_size:x}",
        mtime=local.modified_at(status),
        executable=bool(status.st_mode & 0o111),
    )


def _store(client: Client, base: Remote, items: list[_Item], bar: Bar) -> None:
    first = items[0].head
    if first.size >= local.RESUMABLE:
        uri = base.below(paths.unquote(first.path))
        part = client.post("/v1/files/part", PartRequest(uri=str(uri), version=first.version), Part)
        offset = part.size if part.size <= first.size else 0
        items = [items[0]._replace(head=msgspec.structs.replace(first, offset=offset))]
        bar.advance(offset)
    path = f"/v1/files/store?uri={quote_plus(str(base))}"
    client.send(path, _body(items, bar), Storing)


def _body(items: list[_Item], bar: Bar) -> Iterator[bytes]:
    batch = bytearray()
    for head, source in items:
        batch += msgspec.json.encode(head) + b"\n"
        if source:
            with open(source, "rb", buffering=0) as file:
                file.seek(head.offset)
                left = head.size - head.offset
                while left:
                    piece = file.read(min(left, _PIECE))
                    if not piece:
                        raise SyncError(
                            f"{printable(source)} became shorter meanwhile; copy it again"
                        )
                    left -= len(piece)
                    batch += piece
                    bar.advance(len(piece))
                    if len(batch) >= _PIECE:
                        yield bytes(batch)
                        batch.clear()
    yield bytes(batch)
