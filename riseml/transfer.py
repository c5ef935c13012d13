"""Copying between this machine and the places that the daemon keeps: `output://144.2/…` and `data://…`.

A large file that was cut off is gone on with where it was, if neither side's has changed since.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote as url_quote

import msgspec

from riseml import local
from riseml.http import Client
from riseml.local import Incoming
from riseml_proto import paths
from riseml_proto.errors import DaemonError, InvalidInput, NotFound, RisemlError
from riseml_proto.file_messages import (
    Fetch,
    FileInfo,
    List,
    Part,
    PartRequest,
    Stored,
    Storing,
    Wanted,
)
from riseml_proto.uris import Remote

_BATCH = 200
_RESUMABLE = 1 << 20  # bytes; the daemon keeps no smaller part
_INFO = msgspec.json.Decoder(FileInfo)

Advance = Callable[[int], None]


class Copied(NamedTuple):
    """What a copy did."""

    files: int
    bytes: int
    problems: list[str]
    """What could not be copied, and why."""


def listing(client: Client, uri: Remote, *, itself: bool, recursive: bool) -> Iterator[FileInfo]:
    """What `uri` names, then what is in it."""
    asked = List(uri=str(uri), recursive=recursive, itself=itself)
    return (_INFO.decode(line) for line in client.stream("/v1/files", asked))


def look(client: Client, uri: Remote) -> FileInfo | None:
    """What `uri` names; None where there is nothing."""
    try:
        return next(iter([*listing(client, uri, itself=True, recursive=False)]), None)
    except NotFound:
        return None


# To here


def download(
    client: Client, uri: Remote, to: bytes, *, recursive: bool, advance: Advance
) -> Copied:
    """Copy what `uri` names to `to`, or into it where it is a directory. Raises `RisemlError`, `OSError`."""
    infos = [*listing(client, uri, itself=not recursive, recursive=recursive)]
    if infos[0].type == "directory" and not recursive:
        raise InvalidInput(f"{uri} is a directory; riseml cp -r copies it")
    if os.path.isdir(to):
        to = os.path.join(to, uri.name)
    problems = [f"{uri.below(_path(i))}: {i.error}" for i in infos if i.error]
    good = [info for info in infos if not info.error]
    problems += [f"{uri.below(_path(i))}: is no file" for i in good if i.type == "other"]
    for info in good:
        if info.type == "directory":
            os.makedirs(_at(to, info), exist_ok=True)
    files = [info for info in good if info.type == "file"]
    count = size = 0
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        wanted = [Wanted(i.path, _incoming(to, i).size, i.version) for i in batch]
        body = _Bytes(client.raw("/v1/files/fetch", Fetch(uri=str(uri), files=wanted)))
        for _ in batch:
            info = _INFO.decode(body.line())
            if info.error:
                problems.append(info.error)
                continue
            advance(info.offset)
            _incoming(to, info).write(
                info.offset,
                _counted(body.exactly(info.size - info.offset), advance),
                mtime=info.mtime,
                executable=info.executable,
            )
            count, size = count + 1, size + info.size
        body.end()
    for info in good:  # last, so that nothing is written through one
        if info.type == "link" and info.target is not None:
            _link(paths.unquote(info.target), _at(to, info))
            count += 1
    return Copied(count, size, problems)


def _path(info: FileInfo) -> bytes:
    path = paths.unquote(info.path)
    if path and any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise DaemonError(f"the daemon sent the path {info.path!r}; it may not be rised")
    return path


def _at(to: bytes, info: FileInfo) -> bytes:
    path = _path(info)
    return os.path.join(to, path) if path else to


def _incoming(to: bytes, info: FileInfo) -> Incoming:
    return Incoming(_at(to, info), info.version)


def _link(target: bytes, path: bytes) -> None:
    if os.path.islink(path):
        os.unlink(path)
    os.symlink(target, path)


class _Bytes:
    """An answer, read as it comes: lines, and runs of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def line(self) -> bytes:
        while b"\n" not in self._left:
            self._left += self._next()
        line, _, self._left = self._left.partition(b"\n")
        return line

    def exactly(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._left or self._next()
            piece, self._left = piece[:size], piece[size:]
            size -= len(piece)
            yield piece

    def end(self) -> None:
        """Read what marks the end, so that the connection can be used again."""
        for _ in self._pieces:
            pass

    def _next(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise DaemonError(
                "the file changed while it was sent; the same command goes on with what is there"
            ) from None


def _counted(pieces: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        advance(len(piece))


# From here


def upload(
    client: Client, source: bytes, uri: Remote, *, recursive: bool, advance: Advance
) -> Copied:
    """Copy `source` to what `uri` names, or into it where it is a directory. Raises `RisemlError`, `OSError`."""
    found = os.stat(source)
    is_directory = stat.S_ISDIR(found.st_mode)
    if is_directory and not recursive:
        raise InvalidInput(f"{paths.quote(source)} is a directory; riseml cp -r copies it")
    there = look(client, uri)
    if there is None and uri.slash and not is_directory:
        raise NotFound(f"{uri}: there is no such directory; riseml cp -r makes one of a directory")
    if there is not None and there.type == "directory":
        uri = uri.below(os.path.basename(os.path.abspath(source)))
    above, _, name = uri.path.rpartition(b"/")
    base = uri._replace(path=above, slash=True)
    entries = [(name, source, found)]
    if is_directory:
        entries += [
            (name + b"/" + path, os.path.join(source, path), status)
            for path, status in local.walk(source)
        ]
    problems: list[str] = []
    sent = [0, 0]
    chunks = _frames(client, base, entries, problems, sent, advance)
    client.send(f"/v1/files/store?uri={url_quote(str(base), safe='')}", chunks, Storing)
    return Copied(sent[0], sent[1], problems)


def _frames(
    client: Client,
    base: Remote,
    entries: list[tuple[bytes, bytes, os.stat_result]],
    problems: list[str],
    sent: list[int],
    advance: Advance,
) -> Iterator[bytes]:
    offsets = {
        path: _left_there(client, base.below(path), status)
        for path, _, status in entries
        if stat.S_ISREG(status.st_mode) and status.st_size >= _RESUMABLE
    }
    return _bodies(entries, offsets, problems, sent, advance)


def _left_there(client: Client, uri: Remote, status: os.stat_result) -> int:
    """How much an upload that was cut off has left there."""
    asked = PartRequest(uri=str(uri), version=local.version(status))
    try:
        return min(client.post("/v1/files/part", asked, Part).size, status.st_size)
    except RisemlError:  # what is wrong with it is told when it is sent
        return 0


def _bodies(
    entries: list[tuple[bytes, bytes, os.stat_result]],
    offsets: dict[bytes, int],
    problems: list[str],
    sent: list[int],
    advance: Advance,
) -> Iterator[bytes]:
    for path, source, status in entries:
        name = paths.quote(path)
        if stat.S_ISDIR(status.st_mode):
            yield _line(Stored(path=name, type="directory"))
        elif stat.S_ISLNK(status.st_mode):
            yield _line(Stored(path=name, type="link", target=paths.quote(os.readlink(source))))
            sent[0] += 1
        elif not stat.S_ISREG(status.st_mode):
            problems.append(f"{paths.quote(source)}: is no file")
        else:
            offset = offsets.get(path, 0)
            yield _line(
                Stored(
                    path=name,
                    size=status.st_size,
                    offset=offset,
                    version=local.version(status),
                    mtime=datetime.fromtimestamp(status.st_mtime, UTC),
                    executable=bool(status.st_mode & 0o100),
                )
            )
            advance(offset)
            yield from _counted(local.pieces(source, offset, status.st_size), advance)
            sent[0] += 1
            sent[1] += status.st_size


def _line(message: msgspec.Struct) -> bytes:
    return msgspec.json.encode(message) + b"\n"
