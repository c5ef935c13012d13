"""The answer to `Fetch`: for each file a line with its `FileInfo`, then the file's bytes.

A file is sent with the size that it had when it was opened. If it becomes shorter meanwhile, the answer is broken off;
what is appended meanwhile is not sent.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence

import msgspec

from rised.files.beneath import Handle, Top, reopen
from rised.files.problems import errors_about
from rised.files.walk import describe
from riseml_proto import paths
from riseml_proto.errors import RisemlError
from riseml_proto.file_messages import FileInfo, Wanted
from riseml_proto.uris import Remote, check

PIECE = 1 << 20
"""Bytes that are read at a time."""


def open_file(top: Top, path: bytes) -> tuple[Handle, os.stat_result]:
    """Open a regular file for reading. Raises `OSError`, with `EISDIR` or `EINVAL` for everything else."""
    with top.find(path) as handle:
        mode = handle.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        file = reopen(handle, os.O_RDONLY)
    return file, file.stat()


def pieces(file: Handle, offset: int, size: int) -> Iterator[bytes]:
    """The bytes from `offset` to `size`. Raises `OSError`, also where the file has fewer."""
    while offset < size:
        data = os.pread(file.fd, min(PIECE, size - offset), offset)
        if not data:
            raise OSError(errno.ESTALE, "it became shorter while it was read")
        offset += len(data)
        yield data


def frames(top: Top, prefix: bytes, uri: Remote, wanted: Sequence[Wanted]) -> Iterator[bytes]:
    """The answer to `Fetch`, in pieces of about a MiB. Raises `OSError` where it breaks off inside a file."""
    batch = bytearray()
    for request in wanted:
        try:
            path = paths.unquote(request.path)
            check(path)
            with errors_about(uri.below(path)):
                file, status = open_file(top, b"/".join(p for p in (prefix, path) if p))
        except RisemlError as error:
            unreadable = FileInfo(path=request.path, type="other", error=str(error))
            batch += msgspec.json.encode(unreadable) + b"\n"
            continue
        with file:
            info = describe(status, path)
            is_same = request.version == info.version and 0 <= request.offset <= info.size
            offset = request.offset if is_same else 0
            info = msgspec.structs.replace(info, offset=offset)
            batch += msgspec.json.encode(info) + b"\n"
            for piece in pieces(file, offset, info.size):
                if not batch and len(piece) == PIECE:
                    yield piece
                    continue
                batch += piece
                if len(batch) >= PIECE:
                    yield bytes(batch)
                    batch.clear()
        if len(batch) >= PIECE:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch)
