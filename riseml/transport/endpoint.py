"""Where a daemon is: `unix.UnixSocket` of this machine, or `ssh.host.SshHost` of another."""

import socket
from typing import Protocol

from riseml_proto.errors import Unreachable


class Endpoint(Protocol):
    """A daemon's address, and the connections to it."""

    where: str
    """How messages name it: `at /run/rised/rised.sock`, `on gpu-box`."""
    remote: bool
    """Whether it is on another machine, where paths and environments of this one mean nothing."""

    def open(self, timeout: float) -> socket.socket:
        """Connect. `timeout`: the seconds that the daemon may take to accept it. Raises `DaemonError`."""

    def release(self, connection: socket.socket, *, idle: bool) -> None:
        """Close a connection, or keep it for the next `open` if it is `idle`."""

    def lost(self, connection: socket.socket) -> Unreachable | None:
        """The error for a connection that ended since the way to the daemon failed, else None."""

    def how_to_restart(self, connection: socket.socket | None) -> str:
        """The text after "restart the daemon" in a message: empty, or a blank and the command."""

    def how_to_renew(self, connection: socket.socket | None) -> str:
        """What to type, and where, to get a daemon of this riseml's version."""

    def bring(self, url: str) -> str | None:
        """The URL by which this machine reaches `url` on 127.0.0.1 of the daemon's machine; None where it cannot."""

    def drop(self, url: str) -> None:
        """Undo `bring(url)`."""
