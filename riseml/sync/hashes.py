"""Git's id of each file, computed only for files that may have changed since the last sync.

The ids are cached per project, and used while a file's size, times and inode are the same. An id is cached only where
the file had not been written for two seconds: two writes within one tick of the file system's clock cannot be told
apart (git calls such an entry racy). A cache that is missing or damaged costs time and is no error.
"""

import hashlib
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from riseml.settings import user_directory
from riseml.sync.files import FileStamp, ScannedFile, read
from riseml_proto.messages import File
from riseml_proto.paths import quote

_QUIET = 2_000_000_000  # ns; the coarsest clock of a file system (FAT)

Known = dict[bytes, tuple[FileStamp, str]]
"""Path → the file's stamp and its id."""


def new_id(size: int) -> "hashlib._Hash":
    """The hash for git's id of a content of `size` bytes; `update` it with that content."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def list_files(
    root: bytes,
    sources: Sequence[ScannedFile],
    advance: Callable[[int], None],
    now: Callable[[], int] = time.time_ns,
) -> list[File]:
    """The manifest entries of `sources`, in their order; `advance` is called with bytes as they are hashed or skipped.

    Raises `SyncError` where a file cannot be read or changes meanwhile.
    """
    cache = _cache_file(root)
    old = _load(cache)
    known: Known = {}
    files = []
    try:
        for source in sources:
            kept = old.get(source.path)
            if kept and kept[0] == source.stamp:
                blob = kept[1]
                known[source.path] = kept
                advance(source.size)
            else:
                begun = now()
                blob = _hash(root, source, advance)
                if begun - max(source.stamp.mtime, source.stamp.ctime) > _QUIET:
                    known[source.path] = (source.stamp, blob)
            files.append(File(quote(source.path), source.mode, source.size, blob))
    finally:
        if known != old:
            _save(cache, {**old, **known} if len(files) < len(sources) else known)
    return files


def forget(root: bytes) -> None:
    """Remove the cache of the project in `root`, because an id in it may be wrong."""
    with suppress(OSError):
        os.unlink(_cache_file(root))


def _hash(root: bytes, source: ScannedFile, advance: Callable[[int], None]) -> str:
    digest = new_id(source.size)
    for chunk in read(root, source):
        digest.update(chunk)
        advance(len(chunk))
    return digest.hexdigest()


def _cache_file(root: bytes) -> str:
    """Path of the cache of the project in `root`."""
    base = user_directory(os.environ, "XDG_CACHE_HOME", "~/.cache")
    name = hashlib.sha1(os.path.realpath(root), usedforsecurity=False).hexdigest()
    return os.path.join(base, "riseml", name)


def _load(path: str) -> Known:
    try:
        with open(path, "rb") as file:
            head, body = file.readline(64), file.read()
        if head == _head(body):
            return msgspec.msgpack.decode(body, type=Known)
    except (OSError, msgspec.DecodeError):
        pass
    return {}


def _save(path: str, known: Known) -> None:
    body = msgspec.msgpack.encode(known)
    directory = os.path.dirname(path)
    with suppress(OSError):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd, fresh = tempfile.mkstemp(dir=directory)
        try:
            with open(fd, "wb") as file:
                file.write(_head(body) + body)
            os.replace(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise


def _head(body: bytes) -> bytes:
    """The first line, with a checksum of `body`: a damaged cache is not used."""
    return b"riseml hashes 1 %08x\n" % zlib.crc32(body)
