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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from riseml.settings import user_directory
from riseml.sync.files import (
    DIRECTORY,
    GONE,
    OPEN_FLAGS,
    FileChangedError,
    FileStamp,
    ScannedFile,
    closing,
    pieces,
    read,
    status,
    unreadable,
)
from riseml_proto.messages import File
from riseml_proto.paths import quote

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""Git's id of a directory with nothing in it."""
_QUIET = 2_000_000_000  # ns; the coarsest clock of a file system (FAT)
_BUSY = 600_000_000_000  # ns; what was written to since then may be written to again
_ATTEMPTS = 3  # to read a file that becomes shorter meanwhile

Known = dict[bytes, tuple[FileStamp, str]]
"""Path → the file's stamp and its id."""


def new_id(size: int, content: bytes = b"") -> "hashlib._Hash":
    """The hash for git's id of a content of `size` bytes; `update` it with what `content` has not."""
    return hashlib.sha1(b"blob %d\0%s" % (size, content), usedforsecurity=False)


class Listing(NamedTuple):
    """The manifest's entries, and what each of them was read from."""

    files: list[File]
    sources: list[ScannedFile]


def list_files(
    root: bytes,
    sources: Sequence[ScannedFile],
    advance: Callable[[int], None],
    now: Callable[[], int] = time.time_ns,
    copies: bytes | None = None,
) -> Listing:
    """The manifest's entries of `sources`, in their order; `advance` is called with bytes as they are read or skipped.

    A file is taken as it is when it is opened: it may have grown, and one that is gone is left out. With the directory
    `copies`, what was written to in the last minutes is copied there, and sent from there. Raises `SyncError` where a
    file cannot be read, and `FileChangedError` where something else has taken its place.
    """
    cache = _cache_file(root)
    old = _load(cache)
    known: Known = {}
    files, taken = list[File](), list[ScannedFile]()
    try:
        for source in sources:
            kept = old.get(source.path)
            if kept and kept[0] == source.stamp:
                blob = kept[1]
                known[source.path] = kept
                advance(source.size)
            elif source.mode == DIRECTORY:
                blob = EMPTY_TREE
            elif source.target is not None:
                blob = new_id(source.size, source.target).hexdigest()
                advance(source.size)
            else:
                try:
                    source, blob, quiet = _take(root, source, advance, now(), copies)
                except FileNotFoundError:
                    continue
                if quiet:
                    known[source.path] = (source.stamp, blob)
            files.append(File(quote(source.path), source.mode, source.size, blob))
            taken.append(source)
    finally:
        if known != old:
            whole = len(files) == len(sources)
            _save(cache, known if whole else {**old, **known})
    return Listing(files, taken)


def _take(
    root: bytes,
    source: ScannedFile,
    advance: Callable[[int], None],
    begun: int,
    copies: bytes | None,
) -> tuple[ScannedFile, str, bool]:
    """The file as it is now, its id, and whether the id may be cached. Raises `FileNotFoundError` where it is gone."""
    for attempt in range(_ATTEMPTS):
        try:
            fd = os.open(root + b"/" + source.path, OPEN_FLAGS)
        except OSError as error:
            if error.errno in GONE:
                raise FileNotFoundError from None
            raise unreadable(source.path, error) from None
        try:
            with closing(fd):
                stamp = status(fd, source)
                source = source._replace(stamp=stamp, copy=None)
                age = begun - max(stamp.mtime, stamp.ctime)
                if copies is not None and age < _BUSY:
                    source = _copy(fd, source, copies)
                    return source, _hash(read(root, source), source, advance), False
                blob = _hash(pieces(fd, source), source, advance)
                return source, blob, age > _QUIET and status(fd, source) == stamp
        except FileChangedError:  # it became shorter while it was read
            if attempt == _ATTEMPTS - 1:
                raise
        except OSError as error:
            raise unreadable(source.path, error) from None
    raise AssertionError


def _copy(fd: int, source: ScannedFile, copies: bytes) -> ScannedFile:
    """The file with a copy in `copies` of what `fd` now has."""
    to, path = tempfile.mkstemp(dir=copies)
    with open(to, "wb") as out:
        left = source.size
        while chunk := os.read(fd, min(left, 1 << 20)):
            out.write(chunk)
            left -= len(chunk)
    return source._replace(stamp=source.stamp._replace(size=source.size - left), copy=path)


def forget(root: bytes) -> None:
    """Remove the cache of the project in `root`, because an id in it may be wrong."""
    with suppress(OSError):
        os.unlink(_cache_file(root))


def _hash(content: Iterator[bytes], source: ScannedFile, advance: Callable[[int], None]) -> str:
    digest = new_id(source.size)
    for chunk in content:
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
