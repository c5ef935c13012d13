"""A repository's objects as streams, so that a blob of any size takes little memory.

Loose objects are read and written here. Objects that the owner's own `git gc` has packed are read through dulwich,
which holds one at a time in memory.

A loose object is written under a temporary name, checked against its ID, synced and only then renamed. So an object
that can be seen is complete, whatever happened to the daemon. Objects are synced a batch at a time: while the kernel
writes one, it can write others.
"""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

from rised.crashpoints import crash_point
from rised.linux.files import disk_may_be_full, opened, write_all
from riseml_proto.errors import NotFound, RisemlError, SyncError

if TYPE_CHECKING:
    from dulwich.object_store import DiskObjectStore
    from dulwich.objects import ObjectID

TEMPORARY = "tmp_rised_"  # `git gc` removes old files whose names start with tmp_, too
_CHUNK = 1 << 18  # bytes; what is held of an object at a time
_BATCH = 64  # objects, each of which keeps a file open until it is on disk
_BATCH_BYTES = 1 << 26  # of content; what a daemon that dies may have received in vain
_SAMPLE = 4096  # bytes that tell whether a blob can be compressed: images and weights cannot
_STORE, _FASTEST = 0, 1  # zlib's levels: the network is a local socket, so time counts most
_KINDS = {1: b"commit", 2: b"tree", 3: b"blob"}


class Reader:
    """Reads objects. The end of its scope closes the packs that it opened. For one thread."""

    def __init__(self, objects: str) -> None:
        self._objects = objects
        self._packs: DiskObjectStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._packs is not None:
            self._packs.close()

    def missing(self, ids: Iterable[str]) -> list[str]:
        """The IDs that the repository does not have, in the order of `ids`."""
        gone = [oid for oid in ids if not os.path.exists(loose_path(self._objects, oid))]
        packs = self._open_packs() if gone else None
        return [oid for oid in gone if not (packs and packs.contains_packed(_hex(oid)))]

    def read(self, oid: str, kind: bytes) -> bytes:
        """The whole content of a small object. Raises as `chunks` does."""
        return b"".join(self.chunks(oid, kind))

    def chunks(self, oid: str, kind: bytes) -> Iterator[bytes]:
        """The content of the object piece by piece.

        Raises `NotFound` where there is no such object of this kind. Raises `RisemlError`, at the latest after the last
        piece, where it is damaged.
        """
        try:
            with opened(loose_path(self._objects, oid), os.O_RDONLY) as fd:
                yield from self._loose(fd, oid, kind)
        except FileNotFoundError:
            yield self._packed(oid, kind)
        except zlib.error:
            raise self._damaged(oid) from None

    def _loose(self, fd: int, oid: str, kind: bytes) -> Iterator[bytes]:
        inflate = zlib.decompressobj()
        digest = hashlib.sha1(usedforsecurity=False)
        first = True
        while not inflate.eof:
            raw = inflate.unconsumed_tail or os.read(fd, _CHUNK)
            data = inflate.decompress(raw, _CHUNK)
            if not data and not raw:
                raise self._damaged(oid)
            digest.update(data)
            if first:
                header, _, data = data.partition(b"\0")
                first = False
                if not header.startswith(kind + b" "):
                    raise self._absent(oid, kind)
            if data:
                yield data
        if digest.hexdigest() != oid:
            raise self._damaged(oid)

    def _packed(self, oid: str, kind: bytes) -> bytes:
        if packs := self._open_packs():
            with contextlib.suppress(KeyError):
                number, data = packs.get_raw(_hex(oid))
                if _KINDS.get(number) == kind:
                    return data
        raise self._absent(oid, kind)

    def _open_packs(self) -> "DiskObjectStore | None":
        packs = os.path.join(self._objects, "pack")
        if self._packs is None and any(name.endswith(".idx") for name in os.listdir(packs)):
            from dulwich.object_store import DiskObjectStore

            self._packs = DiskObjectStore(self._objects)
        return self._packs

    def _absent(self, oid: str, kind: bytes) -> NotFound:
        return NotFound(f"there is no {kind.decode()} {oid} in {self._objects}")

    def _damaged(self, oid: str) -> RisemlError:
        return RisemlError(f"object {oid} in {self._objects} is damaged; see git fsck")


class Writer:
    """Writes loose objects. After its scope the complete ones are on disk, and no temporary files are left.

    One object at a time: `begin`, any number of `write`, `end`. All of them may raise `StorageFull`.
    """

    def __init__(self, objects: str) -> None:
        self._objects = objects
        self._current: tuple[int, str] | None = None
        self._complete: list[tuple[int, str, str]] = []  # open file, its temporary path, its id
        self._waiting = 0  # bytes of content in those

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            fd, path = self._current
            os.close(fd)
            os.unlink(path)
        self._flush()

    def add(self, kind: bytes, oid: str, content: bytes) -> None:
        """`begin`, `write` and `end` at once, for a small object."""
        self.begin(oid, len(content), kind)
        self.write(content)
        self.end()

    def begin(self, oid: str, size: int, kind: bytes = b"blob") -> None:
        """Start an object of `size` bytes whose ID must turn out to be `oid`."""
        self._oid, self._left = oid, size
        self._waiting += size
        self._header = b"%s %d\0" % (kind, size)
        self._deflate: zlib._Compress | None = None
        self._digest = hashlib.sha1(self._header, usedforsecurity=False)
        path = os.path.join(self._objects, TEMPORARY + os.urandom(8).hex())
        with disk_may_be_full(self._objects):
            self._current = (os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), path)

    def write(self, data: bytes | memoryview) -> None:
        """The next part of the object's content."""
        assert self._current is not None
        self._left -= len(data)
        self._digest.update(data)
        with disk_may_be_full(self._objects):
            self._deflate = self._deflate or self._start(self._current[0], data)
            write_all(self._current[0], self._deflate.compress(data))

    def end(self) -> None:
        """Complete the object. Raises `SyncError` where the content has another ID or size."""
        assert self._current is not None
        if self._left or self._digest.hexdigest() != self._oid:
            raise SyncError(f"the content sent as blob {self._oid} is another; sync again")
        fd, path = self._current
        with disk_may_be_full(self._objects):
            self._deflate = self._deflate or self._start(fd, b"")
            write_all(fd, self._deflate.flush())
        self._complete.append((fd, path, self._oid))
        self._current = None
        if len(self._complete) >= _BATCH or self._waiting >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Return when the complete objects are on disk and renamed. The new names may not be on disk yet."""
        if not self._complete:
            return
        self._waiting = 0
        try:
            with disk_may_be_full(self._objects):
                for fd, _, _ in self._complete:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # starts writing it out
                for fd, _, _ in self._complete:
                    os.fsync(fd)
                crash_point("objects-before-rename")
                while self._complete:
                    fd, path, oid = self._complete[-1]
                    target = loose_path(self._objects, oid)
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.rename(path, target)
                    self._complete.pop()
                    os.close(fd)
                crash_point("objects-after-rename")
        except BaseException:
            for fd, path, _ in self._complete:
                os.close(fd)
                os.unlink(path)
            self._complete.clear()
            raise

    def _start(self, fd: int, first: bytes | memoryview) -> "zlib._Compress":
        sample = first[:_SAMPLE]
        hopeless = len(sample) == _SAMPLE and len(zlib.compress(sample, _FASTEST)) > _SAMPLE * 0.95
        deflate = zlib.compressobj(_STORE if hopeless else _FASTEST)
        write_all(fd, deflate.compress(self._header))
        return deflate


def loose_path(objects: str, oid: str) -> str:
    """The path of the loose object `oid`, whether it exists or not."""
    return f"{objects}/{oid[:2]}/{oid[2:]}"


def _hex(oid: str) -> "ObjectID":
    from dulwich.objects import ObjectID

    return ObjectID(oid.encode())
