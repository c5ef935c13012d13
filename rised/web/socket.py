"""The daemon's socket: made so that there is one daemon behind it, and only who may can reach it.

A lock beside the socket says whether a daemon is there: the kernel drops it with its holder, however that dies. So
whoever has the lock may remove a socket that a dead daemon left. The new socket is made under another name and renamed
when it listens: nobody ever meets one that does not.
"""

import contextlib
import fcntl
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator

import trio

from rised.web.connection import Connection
from rised.web.request import Handler, Peer
from riseml_proto.errors import DaemonError

_BACKLOG = 4096
_CREDENTIALS = struct.Struct("3i")
_LONGEST_PATH = 107


class AlreadyRunning(DaemonError):
    """Another daemon holds the socket or the state directory."""

    code = "already-running"


@contextlib.contextmanager
def locked(path: str, what: str) -> Iterator[None]:
    """Hold the lock file `path`, our pid in it. Raises `AlreadyRunning`, which says that `what` is taken."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 32).decode(errors="replace").strip()
            raise AlreadyRunning(f"{what} is in use by another rised (pid {pid})") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(fd)


def check_directory(path: str) -> None:
    """Make the socket's directory, or refuse one in which others could put a socket of theirs. Raises `DaemonError`."""
    directory = os.path.dirname(path)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    found = os.lstat(directory)
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others:
        raise DaemonError(
            f"{directory} must be a directory that is yours and that nobody else may write to"
            f" (chmod 700 {directory}), or name another --socket"
        )


@contextlib.contextmanager
def listening(path: str) -> Iterator[trio.SocketListener]:
    """Listen on `path`, whose lock the caller holds; remove it at the end."""
    if len(os.fsencode(path)) + 4 > _LONGEST_PATH:
        raise DaemonError(f"{path} is too long for a Unix socket; name a shorter --socket")
    new = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as plain:
        plain.bind(new)
        os.chmod(new, 0o600)
        plain.listen(_BACKLOG)
        os.rename(new, path)
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(plain))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


async def serve(listener: trio.SocketListener, handle: Handler) -> None:
    """Serve every connection until cancelled."""

    async def connected(stream: trio.SocketStream) -> None:
        await Connection(stream, peer_of(stream.socket), handle).serve()

    await trio.serve_listeners(connected, [listener])


def peer_of(connection: trio.socket.SocketType) -> Peer:
    """Who connected, from the kernel: nothing in a message can change that."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid, gid, user_name(uid))


def user_name(uid: int) -> str:
    """The user's name, or `uid-1000` for one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
