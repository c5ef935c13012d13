"""Copies from the daemon to this machine.

    POST /v1/files          the list of files
    POST /v1/files/fetch    many small files at a time, or a large one from where it was cut off

Nothing is written through a symbolic link below the target; links are made after everything else.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from riseml.progress import Bar
from riseml.transfer import Warn, local
from riseml.transfer.batches import batches
from riseml.transfer.frames import FrameReader
from riseml.transport.http import Client
from riseml_proto import paths, uris
from riseml_proto.errors import InvalidInput, RisemlError, printable
from riseml_proto.file_messages import Fetch, FileInfo, List, Wanted
from riseml_proto.uris import Remote

_BATCH = 500
_BATCH_BYTES = 16 << 20


class _File(NamedTuple):
    """A file to be copied."""

    info: FileInfo
    path: bytes
    """Relative to the source."""
    target: bytes


def look(client: Client, uri: Remote) -> FileInfo:
    """Look up the file or directory that `uri` names. Raises `NotFound` and other `RisemlError`s."""
    return next(listing(client, List(uri=str(uri), itself=True)))


def listing(client: Client, request: List) -> Iterator[FileInfo]:
    """The daemon's answer to `List`. Raises `RisemlError`."""
    return (
        msgspec.json.decode(line, type=FileInfo) for line in client.stream("/v1/files", request)
    )


def download(
    client: Client, source: Remote, target: bytes, *, recursive: bool, warn: Warn, bar: Bar
) -> None:
    """Copy `source` to `target`, or into it if it is a directory. Raises `RisemlError`, `OSError`."""
    info = look(client, source)
    if info.type == "directory" and not recursive:
        raise InvalidInput(f"{source} is a directory; copy it with -r")
    if info.type not in ("file", "directory"):
        raise InvalidInput(f"{source} is no regular file, so it cannot be copied")
    if os.path.isdir(target):
        target = os.path.join(target, source.name)
    elif target.endswith(b"/") and info.type == "file":
        raise InvalidInput(f"{printable(target)}: there is no such directory; make it first")
    if info.type == "file":
        local.check_target(target)
        bar.start(info.size)
        _fetch(client, source, [_File(info, b"", target)], warn, bar)
    else:
        _tree(client, source, target.rstrip(b"/"), warn, bar)


def _tree(client: Client, source: Remote, target: bytes, warn: Warn, bar: Bar) -> None:
    made = {b""}
    _make_directory(target)
    files, links = list[_File](), list[FileInfo]()
    for info in listing(client, List(uri=str(source), recursive=True)):
        path = paths.unquote(info.path)
        uris.check(path)
        above, _, name = path.rpartition(b"/")
        if info.error is not None:
            warn(f"{source.below(path)}: {info.error}")
        elif not path or name.startswith(uris.PART_PREFIX):
            continue
        elif above not in made:
            warn(f"{source.below(path)}: its directory was not listed; copy it again")
        elif info.type == "directory":
            _make_directory(os.path.join(target, path))
            made.add(path)
        elif info.type == "link":
            links.append(info)
        elif info.type == "file":
            file = _File(info, path, os.path.join(target, path))
            if not _is_there(file):
                files.append(file)
        else:
            warn(f"{source.below(path)} is no regular file and was left out")
    bar.start(sum(file.info.size for file in files))
    for batch in batches(
        files, lambda file: file.info.size, count=_BATCH, most=_BATCH_BYTES, alone=_BATCH_BYTES
    ):
        _fetch(client, source, batch, warn, bar)
    for info in links:
        _make_link(os.path.join(target, paths.unquote(info.path)), paths.unquote(info.target or ""))


def _make_directory(path: bytes) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise InvalidInput(
                f"{printable(path)} is in the way of a directory; remove it first"
            ) from None


def _make_link(path: bytes, target: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(os.lstat(path).st_mode):
            os.unlink(path)
    try:
        os.symlink(target, path)
    except FileExistsError:
        raise InvalidInput(f"{printable(path)} is in the way of a link; remove it first") from None


def _is_there(file: _File) -> bool:
    """Whether an earlier copy has brought the file: its size and time are the same, as rsync decides it."""
    with contextlib.suppress(OSError):
        status = os.lstat(file.target)
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_size == file.info.size
            and file.info.mtime is not None
            and status.st_mtime_ns // 1000 == local.microseconds(file.info.mtime)
        )
    return False


def _fetch(client: Client, source: Remote, files: list[_File], warn: Warn, bar: Bar) -> None:
    wanted, parts = list[Wanted](), list[bytes]()
    for file in files:
        name = str(source.below(file.path))
        part = local.part_of(file.target, name, file.info.version)
        size = local.size_of(part) if file.info.size >= local.RESUMABLE else 0
        wanted.append(Wanted(path=paths.quote(file.path), offset=size, version=file.info.version))
        parts.append(part)
    frames = FrameReader(client.raw("/v1/files/fetch", Fetch(uri=str(source), files=wanted)))
    for file, one, part in zip(files, wanted, parts, strict=True):
        info = frames.info()
        if info.error is not None:
            if len(files) == 1 and not file.path:
                raise InvalidInput(info.error)
            warn(info.error)
            continue
        bar.advance(info.offset)
        if info.version != one.version:  # it changed since it was listed
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            part = local.part_of(file.target, str(source.below(file.path)), info.version)
        local.check_target(file.target)
        content = frames.content(info.size - info.offset, bar.advance)
        try:
            local.write(file.target, part, info, content)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise RisemlError(f"{printable(file.target)}: {error.strerror}") from None
