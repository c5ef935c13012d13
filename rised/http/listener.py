"""The daemon's socket: exactly one daemon listens on it, and only permitted users can connect.

Who listens holds the lock beside the socket (`rised.locks`), and so may remove a socket that a dead daemon left. A new
socket is made under another name and renamed when it listens, so that no client ever finds one that does not yet.
"""

import contextlib
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator

import trio

from rised.http.connection import Connection
from rised.http.connection_limit import ConnectionLimiter
from rised.http.request import Handler
from rised.users.peer import Peer, user_name
from riseml_proto.errors import DaemonError

_BACKLOG = 4096
_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
_GROUP = struct.Struct("I")
_MOST_GROUPS = 256
_LONGEST_PATH = 107
_NEW = ".new"


def prepare_directory(path: str, mode: int = 0o700) -> None:
    """Make the directory of the socket `path`. Raises `DaemonError` where other users could put a socket there."""
    if len(os.fsencode(path)) + len(_NEW) > _LONGEST_PATH:
        raise DaemonError(f"{path} is too long for a Unix socket; name a shorter --socket")
    directory = os.path.dirname(path)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, mode)
        os.chmod(directory, mode)  # whatever the umask
    status = os.lstat(directory)
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or others:
        raise DaemonError(
            f"{directory} must be a directory that is yours and that nobody else may write to"
            f" (chmod 700 {directory}), or name another --socket"
        )
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise DaemonError(f"{path} is there and is no socket; remove it, or name another --socket")


@contextlib.contextmanager
def listening(
    path: str, mode: int = 0o600, group: int | None = None, given: socket.socket | None = None
) -> Iterator[trio.SocketListener]:
    """Listen on `path`, whose lock the caller holds; remove the socket at the end.

    A `given` socket comes from the service manager: it keeps its mode and group, and is not removed.
    """
    if given is not None:
        given.setblocking(False)
        yield trio.SocketListener(trio.socket.from_stdlib_socket(given))
        return
    new = path + _NEW
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as plain:
        plain.bind(new)
        if group is not None:
            os.chown(new, -1, group)
        os.chmod(new, mode)
        plain.listen(_BACKLOG)
        os.rename(new, path)
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(plain))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


async def serve(
    listener: trio.SocketListener, handle: Handler, limit: int, connections: trio.Nursery
) -> None:
    """Accept connections until cancelled, and serve them in `connections`, at most `limit` at once."""
    limiter = ConnectionLimiter(limit)

    async def connected(stream: trio.SocketStream) -> None:
        await Connection(stream, peer_of(stream.socket), handle, limiter).serve()

    await trio.serve_listeners(connected, [listener], handler_nursery=connections)


def peer_of(connection: trio.socket.SocketType) -> Peer:
    """The user at the other end of a connection, as the kernel says. Nothing that a client sends can change it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid, gid, user_name(uid), _groups_of(connection, uid, gid))


def _groups_of(connection: trio.socket.SocketType, uid: int, gid: int) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * _GROUP.size)
    except OSError:  # more groups than Python's buffer may hold
        try:
            return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        except KeyError:
            return ()
    return tuple(group for (group,) in _GROUP.iter_unpack(raw))
