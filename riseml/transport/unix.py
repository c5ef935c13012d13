"""A daemon's socket on this machine, and which directories are safe for such a socket."""

import os
import socket
import stat
import struct

from riseml_proto import VERSION
from riseml_proto.default_socket import SYSTEM_SOCKET
from riseml_proto.errors import DaemonError, Unreachable

LONGEST_PATH = 107
"""Bytes that fit into the kernel's sockaddr_un."""


class UnixSocket:
    """The `Endpoint` of a daemon that listens at `path`."""

    remote = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.where = f"at {path}"

    def open(self, timeout: float) -> socket.socket:
        """Connect; see `Endpoint`."""
        path = os.fsencode(self.path)
        if len(path) > LONGEST_PATH:
            raise DaemonError(
                f"{self.path}: a socket's path may have {LONGEST_PATH} bytes, "
                f"this one has {len(path)}; use a shorter one"
            )
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # The kernel applies this timeout to connect() too. Python's own timeout would fail at once
        # where the socket's queue is full.
        limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            connection.connect(path)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bytes(len(limit)))
        except OSError as error:
            connection.close()
            raise _no_connection(self.path, error) from None
        return connection

    def release(self, connection: socket.socket, *, idle: bool) -> None:
        """Close the connection."""
        connection.close()

    def lost(self, connection: socket.socket) -> Unreachable | None:
        """Return None: on this machine only the daemon can fail."""

    def how_to_restart(self, connection: socket.socket | None) -> str:
        """The machine's daemon by systemctl, a user's own by its pid."""
        if self.path == SYSTEM_SOCKET:
            return " (systemctl restart rised)"
        pid = _peer(connection)
        return (
            f" (kill -9 {pid}; the next riseml command starts your own one again)"
            if pid > 1
            else ""
        )

    def how_to_renew(self, connection: socket.socket | None) -> str:
        """The machine's daemon by its installation, a user's own by the next command."""
        if self.path == SYSTEM_SOCKET:
            return (
                "type here: sudo systemctl restart rised; if that is not enough, "
                f"sudo scripts/install-server in a checkout of riseml {VERSION}"
            )
        pid = _peer(connection)
        other = f" (or kill {pid})" if pid > 1 else ""
        return (
            f"type here: rised --stop{other}; the next riseml command starts a new one, "
            "and jobs run on"
        )

    def bring(self, url: str) -> str:
        """`url` itself: the server is on this machine."""
        return url

    def drop(self, url: str) -> None:
        """Do nothing, as `bring` did."""


def _peer(connection: socket.socket | None) -> int:
    """The pid of who listens; 0 where nobody knows."""
    if connection is None:
        return 0
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", peer)[0])


def is_private(directory: str, uid: int) -> bool:
    """Whether `directory` is a directory (no link), belongs to `uid`, and nobody else can write to it."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & others


def _no_connection(path: str, error: OSError) -> DaemonError:
    system = path == SYSTEM_SOCKET
    if isinstance(error, PermissionError):
        return DaemonError(f"you may not use the daemon at {path}; {_membership(path)}")
    start = "systemctl start rised" if system else f"rised --socket {path}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreachable(f"there is no daemon at {path}; start it: {start}")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"the daemon at {path} does not run any more; start it: {start}")
    if isinstance(error, BlockingIOError):
        return Unreachable(f"the daemon at {path} takes no more connections; try again in a moment")
    return DaemonError(
        f"{path}: {error.strerror}; name the daemon's socket with --host unix:///path"
    )


def _membership(path: str) -> str:
    import grp

    try:
        status = os.stat(path)
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return "ask who runs it for permission"
    if not status.st_mode & stat.S_IWGRP:
        return "it serves its own user alone"
    return f"ask who runs it to add you to the group {group}, then log in again"
