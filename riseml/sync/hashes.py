"""Git's id of each file, computed only for what may have changed since the last time.

What is known is kept per project in the user's cache directory. An id is trusted while size, times
and inode of the file are what they were, and only if the file had been left alone for a moment
before it was read: two writes within one tick of the file system's clock look the same from outside
(git calls such an entry racy). The cache is a help and nothing more: one that is missing, damaged
or cannot be written costs time, never an error.
"""

import hashlib
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from riseml.sync.files import FileStamp, ScannedFile, read
from riseml_proto.messages import File
from riseml_proto.paths import quote

_QUIET = 2_000_000_000  # ns; as coarse as the clocks of file systems get (FAT)

Known = dict[bytes, tuple[FileStamp, str]]
"""Path → what the file looked like, and its id."""


def new_id(size: int) -> "hashlib._Hash":
    """The hash that yields git's id of a content of `size` bytes when it has been fed that."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def list_files(
    root: bytes,
    sources: Sequence[ScannedFile],
    advance: Callable[[int], None],
    now: Callable[[], int] = time.time_ns,
) -> list[File]:
    """The manifest entries of `sources`, in their order.

    `advance` is told each number of bytes that was dealt with. Raises `SyncError` where a file
    cannot be read or changes meanwhile.
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
    """Throw away what is known about the project in `root`: something of it proved wrong."""
    with suppress(OSError):
        os.unlink(_cache_file(root))


def _hash(root: bytes, source: ScannedFile, advance: Callable[[int], None]) -> str:
    digest = new_id(source.size)
    for chunk in read(root, source):
        digest.update(chunk)
        advance(len(chunk))
    return digest.hexdigest()


def _cache_file(root: bytes) -> str:
    """The file that holds what is known about the project in `root`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the standard says to ignore such a value
        base = os.path.expanduser("~/.cache")
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
    """A first line that no other content than `body` has: what is damaged is not believed."""
    return b"riseml hashes 1 %08x\n" % zlib.crc32(body)
