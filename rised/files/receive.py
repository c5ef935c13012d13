"""The body of an upload: for each file a line with a `Stored`, then the file's bytes.

`feed` takes the body in pieces of any size. Small files are flushed many at a time, a large one as soon as it is
complete, and everything is on disk when `end` returns. A large file whose upload was interrupted is kept, so that it
can be continued.
"""

import contextlib
import errno
import os
import stat

import msgspec

from rised.files.beneath import Handle, Top, reopen
from rised.files.partial_file import PartialFile, remove_stale
from rised.files.problems import errors_about
from rised.users.owner import Owner
from riseml_proto import paths
from riseml_proto.errors import InvalidInput, RisemlError
from riseml_proto.file_messages import Stored
from riseml_proto.uris import Remote, check

RESUMABLE = 1 << 20
"""Bytes that a file needs to be worth continuing after an interruption."""
_LONGEST_LINE = 64 * 1024
_BATCH = 64
_BATCH_BYTES = 8 << 20


class Receiver:
    """Stores files below a URI. Each method raises a `RisemlError` that names the file which caused it."""

    def __init__(self, top: Top, uri: Remote, prefix: bytes, owner: Owner) -> None:
        """`prefix`: the path from `top` to what `uri` names."""
        self._top, self._uri, self._prefix, self._owner = top, uri, prefix, owner
        self._line = bytearray()
        self._now: tuple[Stored, PartialFile] | None = None
        self._left = 0  # bytes of that file which are still to come
        self._complete: list[tuple[Stored, PartialFile]] = []
        self._waiting = 0  # bytes of the complete files
        self._folders: dict[bytes, Handle] = {}  # the last one used, and those to be flushed
        self._failed = False
        self.stored = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next piece of the body. After an error nothing more is taken."""
        if self._failed:
            return
        try:
            self._take(memoryview(data))
        except BaseException:
            self._failed = True
            raise

    def _take(self, view: memoryview) -> None:
        while view:
            if self._now:
                piece, view = view[: self._left], view[self._left :]
                with errors_about(self._named(self._now[0].path)):
                    self._now[1].write(piece)
                self._left -= len(piece)
                self._end_file()
                continue
            end = bytes(view[:_LONGEST_LINE]).find(b"\n") + 1
            self._line += view[: end or None]
            if len(self._line) > _LONGEST_LINE:
                raise InvalidInput("what is sent is no line that says what follows")
            view = view[end:] if end else view[:0]
            if end:
                line = bytes(self._line)
                self._line.clear()
                self._begin(line)

    def end(self) -> None:
        """Take note that the body is complete; return when everything is on disk."""
        if self._now or self._line:
            raise InvalidInput("the rest of what was announced did not come; send it again")
        self._flush()

    def close(self, rest: bytes | bytearray = b"") -> None:
        """Take `rest`, flush complete files, keep an incomplete one if it is large. Raises nothing."""
        with contextlib.suppress(RisemlError):
            self.feed(rest)
        if self._now:
            stored, partial = self._now
            self._now = None
            (partial.close if stored.size >= RESUMABLE else partial.discard)()
        with contextlib.suppress(RisemlError):
            self._flush()
        for _, partial in self._complete:
            partial.discard()
        for folder in self._folders.values():
            folder.close()

    def _begin(self, line: bytes) -> None:
        try:
            stored = msgspec.json.decode(line, type=Stored)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"what is sent is not what it takes: {error}") from None
        path = paths.unquote(stored.path)
        check(path)
        uri = self._named(stored.path)
        if not 0 <= stored.offset <= stored.size:
            raise InvalidInput(f"{uri}: its offset must be between 0 and its size")
        with errors_about(uri):
            folder, name = self._above(path)
            if not name:
                raise InvalidInput(f"{uri}: say a name below it")
            if stored.type == "file":
                self._begin_file(stored, folder, name, uri)
            elif stored.type == "directory":
                make_folder(folder, name, self._owner)
                self.stored += 1
            elif stored.type == "link" and stored.target:
                make_link(folder, name, paths.unquote(stored.target))
                self.stored += 1
            else:
                raise InvalidInput(f"{uri}: cannot be made a {stored.type}")

    def _begin_file(self, stored: Stored, folder: Handle, name: bytes, uri: Remote) -> None:
        try:
            partial = PartialFile(folder, name, stored.version, stored.offset, self._owner)
        except InvalidInput as error:
            raise InvalidInput(f"{uri}: {error}") from None
        if stored.size >= RESUMABLE and not stored.offset:
            remove_stale(folder, name, stored.version)
        self._now, self._left = (stored, partial), stored.size - stored.offset
        self._end_file()

    def _end_file(self) -> None:
        if self._now and not self._left:
            self._complete.append(self._now)
            self._waiting += self._now[0].size
            self._now = None
            if len(self._complete) >= _BATCH or self._waiting >= _BATCH_BYTES:
                self._flush()

    def _flush(self) -> None:
        for _, partial in self._complete:
            partial.start_sync()
        for stored, partial in self._complete:
            with errors_about(self._named(stored.path)):
                partial.sync(stored.mtime, executable=stored.executable)
        while self._complete:
            stored, partial = self._complete[-1]
            with errors_about(self._named(stored.path)):
                partial.publish()
            self._complete.pop()
            partial.close()
            self.stored += 1
        self._waiting = 0
        with errors_about(self._uri):
            for folder in self._folders.values():
                sync_folder(folder)
                folder.close()
        self._folders.clear()

    def _above(self, path: bytes) -> tuple[Handle, bytes]:
        above, _, name = b"/".join(part for part in (self._prefix, path) if part).rpartition(b"/")
        if above not in self._folders:
            if len(self._folders) >= _BATCH:
                self._flush()
            self._folders[above] = self._top.find_directory(above)
        return self._folders[above], name

    def _named(self, path: str) -> Remote:
        return self._uri.below(paths.unquote(path))


def make_folder(above: Handle, name: bytes, owner: Owner) -> None:
    """Make a directory with the mode that its owner's umask gives, unless there is one. Raises `OSError`."""
    try:
        os.mkdir(name, 0o700, dir_fd=above.fd)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=above.fd, follow_symlinks=False).st_mode):
            raise
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with Handle(os.open(name, flags, dir_fd=above.fd)) as made:
        status = made.stat()
        if status.st_uid == owner.uid:  # and not one that somebody put in its place
            os.fchmod(made.fd, stat.S_IMODE(status.st_mode) | 0o777 & ~owner.umask)


def make_link(above: Handle, name: bytes, target: bytes) -> None:
    """Make a symbolic link; it replaces another link, but nothing else. Raises `OSError`."""
    try:
        if os.readlink(name, dir_fd=above.fd) == target:
            return
        os.unlink(name, dir_fd=above.fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a link
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        raise
    os.symlink(target, name, dir_fd=above.fd)


def sync_folder(folder: Handle) -> None:
    """Return when the names in a directory are on disk; at once where its owner may not read it. Raises `OSError`."""
    with contextlib.suppress(PermissionError), reopen(folder, os.O_RDONLY) as opened:
        os.fsync(opened.fd)
