"""The daemon's socket: exactly one daemon listens on it, and only permitted users can connect.

A lock file beside the socket says whether a daemon is there. The kernel releases the lock when its holder dies, in
whatever way. So the holder of the lock may remove a socket that a dead daemon left. A new socket is made under another
name and renamed when it listens, so that no client ever finds one that does not listen yet.
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

from rised.http.connection import Connection
from rised.http.connection_limit import ConnectionLimiter
from rised.http.request import Handler
from rised.users.peer import Peer, user_name
from riseml_proto.errors import AlreadyRunning, DaemonError

_BACKLOG = 4096
_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
_GROUP = struct.Struct("I")
_MOST_GROUPS = 256
_LONGEST_PATH = 107
_NEW = ".new"


@contextlib.contextmanager
def locked(path: str, name: str, listens_at: str = "") -> Iterator[None]:
    """Hold the lock file `path` for what users call `name`, and write our pid and socket into the file.

    Raises `AlreadyRunning` where another daemon holds it, `DaemonError` where `path` cannot be a lock file.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DaemonError(f"{path} cannot be a lock file ({error.strerror}); remove it") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_in_use(name, *_holder(fd))) from None
        os.ftruncate(fd, 0)
        os.write(fd, os.fsencode(f"{os.getpid()}\n{listens_at}\n"))
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> tuple[str, str]:
    """The pid and the socket that the holder of a lock wrote into the file."""
    pid, _, rest = os.fsdecode(os.pread(fd, 4096, 0)).partition("\n")
    return pid, rest.removesuffix("\n")


def _in_use(name: str, pid: str, listens_at: str) -> str:
    text = f"{name} is in use by another rised (pid {pid})"
    if listens_at:
        text += f": use that one by --host unix://{listens_at}, or end it with rised --stop"
    return text


def unreachable_holder(lock: str, own: str) -> int | None:
    """The pid of a daemon that holds `lock` but that nobody can reach any more; None if there is none.

    Such a daemon lost its socket and the lock file beside it: all of /run/user/UID is removed when its user's last
    session ends. The caller holds the lock of `own`, its own socket.
    """
    with contextlib.suppress(FileNotFoundError), open(lock, "rb") as file:
        if not _is_held(file.fileno()):
            return None
        pid, listens_at = _holder(file.fileno())
        if pid.isdigit() and listens_at and (listens_at == own or not _has_daemon(listens_at)):
            return int(pid)
    return None


def _has_daemon(path: str) -> bool:
    try:
        with open(path + ".lock", "rb") as file:
            return _is_held(file.fileno())
    except OSError:
        return False


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


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
    path: str,
    mode: int = 0o600,
    group: int | None = None,
    given: socket.socket | None = None,
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


async def serve(listener: trio.SocketListener, handle: Handler, limit: int) -> None:
    """Serve connections, at most `limit` at once, until cancelled."""
    limiter = ConnectionLimiter(limit)

    async def connected(stream: trio.SocketStream) -> None:
        await Connection(stream, peer_of(stream.socket), handle, limiter).serve()

    await trio.serve_listeners(connected, [listener])


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
