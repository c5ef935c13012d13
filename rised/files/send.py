"""Files as they go out: a line that tells what follows (`FileInfo`), then its bytes, again and again.

A file is sent as long as it was when it was opened; one that became shorter meanwhile breaks the answer off, and what
was appended is left for the next time.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence

import msgspec

from rised.files.beneath import Handle, Top, reopen
from rised.files.problems import told
from rised.files.walk import describe
from riseml_proto import paths
from riseml_proto.errors import RisemlError
from riseml_proto.messages import FileInfo, Wanted
from riseml_proto.uris import Remote, check

PIECE = 1 << 20
"""Bytes that are read at a time."""


def open_file(top: Top, path: bytes) -> tuple[Handle, os.stat_result]:
    """A regular file to read. Raises `OSError`: `EISDIR`, `EINVAL` where it is no such thing."""
    with top.find(path) as found:
        mode = found.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        file = reopen(found, os.O_RDONLY)
    return file, file.stat()


def pieces(file: Handle, offset: int, size: int) -> Iterator[bytes]:
    """The bytes from `offset` to `size`. Raises `OSError`, also where there are less."""
    while offset < size:
        data = os.pread(file.fd, min(PIECE, size - offset), offset)
        if not data:
            raise OSError(errno.ESTALE, "it became shorter while it was read")
        offset += len(data)
        yield data


def frames(top: Top, prefix: bytes, uri: Remote, wanted: Sequence[Wanted]) -> Iterator[bytes]:
    """The answer to `Fetch`, in pieces of convenient size. Raises `OSError` in the middle of a file."""
    batch = bytearray()
    for one in wanted:
        try:
            path = paths.unquote(one.path)
            check(path)
            with told(uri.below(path)):
                file, found = open_file(top, b"/".join(p for p in (prefix, path) if p))
        except RisemlError as error:
            told_of = FileInfo(path=one.path, type="other", error=str(error))
            batch += msgspec.json.encode(told_of) + b"\n"
            continue
        with file:
            info = describe(found, path)
            goes_on = one.version == info.version and 0 <= one.offset <= info.size
            offset = one.offset if goes_on else 0
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
