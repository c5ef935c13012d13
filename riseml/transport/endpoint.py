"""What a client has to know of a daemon's place: how to get a connection, and how to speak of it.

`unix.UnixSocket` is a socket of this machine, `ssh.SshHost` another machine. Nothing else depends on
which one it is, but for `remote`.
"""

import socket
from typing import Protocol

from riseml_proto.errors import DaemonError


class Unreachable(DaemonError):
    """Nobody listens, or the connection was cut: the daemon may be restarting."""

    def __init__(
        self,
        text: str,
        *,
        patience: float | None = None,
        notice: str = "the daemon does not answer; waiting for it to come back",
    ) -> None:
        """`patience`: the seconds for which it is worth trying again, if they are not the usual.

        `notice` is what a person should read meanwhile.
        """
        super().__init__(text)
        self.patience = patience
        self.notice = notice


class Endpoint(Protocol):
    """A daemon's place."""

    where: str
    """`at /run/rised/rised.sock`, `on gpu-box`."""
    remote: bool
    """Whether it is on another machine: paths and environments of this one mean nothing there."""

    def open(self, timeout: float) -> socket.socket:
        """A connection. `timeout`: the seconds that a daemon may take to accept it.

        Raises `DaemonError`, of which `Unreachable`.
        """

    def release(self, connection: socket.socket, *, idle: bool) -> None:
        """Close a connection, or keep it for the next `open` if it is `idle`."""

    def cut(self, connection: socket.socket) -> Unreachable:
        """What to say of a connection that ended where more should have come."""

    def how_to_restart(self, connection: socket.socket | None) -> str:
        """What follows the words "restart the daemon": nothing, or a blank and the way to do it."""

    def bring(self, url: str) -> str | None:
        """The URL under which this machine reaches a server of the daemon's 127.0.0.1, or None."""

    def drop(self, url: str) -> None:
        """Undo `bring(url)`."""
