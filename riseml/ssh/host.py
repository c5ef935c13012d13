"""The `Endpoint` of a daemon on another machine, reached by ssh."""

import atexit
import select
import socket
from collections.abc import Mapping

from riseml.settings import remote_command
from riseml.ssh import forward, options
from riseml.ssh.session import Session
from riseml.transport.address import SshAddress
from riseml_proto import VERSION
from riseml_proto.errors import SshFailed, Unreachable


class SshHost:
    """The `Endpoint` of the daemon at `address`; it keeps an idle connection, so that a command starts ssh once."""

    remote = True

    def __init__(
        self, address: SshAddress, environ: Mapping[str, str], *, hurry: float | None = None
    ) -> None:
        """`hurry`: connect within so many seconds, over a connection that ssh keeps, without a question or a word."""
        self.where = f"on {address.host}"
        self._address = address
        self._environ = environ
        self._hurry = hurry
        self._sessions: dict[socket.socket, Session] = {}
        self._idle: socket.socket | None = None
        self._reached = False
        self._brought: dict[str, str] = {}
        atexit.register(self.close)

    def open(self, timeout: float) -> socket.socket:
        """Connect, without a timeout: a person may type a password, and the other end has one for the daemon."""
        idle, self._idle = self._idle, None
        if idle:
            if not select.select([idle], [], [], 0)[0]:  # only its end could be read
                return idle
            self.release(idle, idle=False)
        call = self._call()
        was_open = call.open
        if self._hurry and not was_open:
            raise Unreachable(f"no connection to the daemon {self.where} is kept")
        try:
            return self._start(call)
        except SshFailed:
            if not was_open:
                raise
        return self._start(call)  # ssh has noticed now that the kept connection was dead

    def release(self, connection: socket.socket, *, idle: bool) -> None:
        """Keep one idle connection; end any other."""
        if idle and not self._idle:
            self._idle = connection
        else:
            self._sessions.pop(connection).end()

    def close(self) -> None:
        """End every session of ssh."""
        self._idle = None
        while self._sessions:
            self._sessions.popitem()[1].end()

    def lost(self, connection: socket.socket) -> Unreachable | None:
        """The error of an ssh that has failed, which is none of the daemon's."""
        session = self._sessions[connection]
        return session.gone() if session.lost() else None

    def how_to_restart(self, connection: socket.socket | None) -> str:
        """Both ways: from here nobody knows whether it is the machine's daemon or a user's own."""
        return " there (systemctl restart rised, or rised --stop)"

    def how_to_renew(self, connection: socket.socket | None) -> str:
        """Both ways, as `how_to_restart`."""
        return (
            f"type {self.where}: pip install --upgrade rised=={VERSION}, then rised --stop; where it serves all "
            f"users: sudo scripts/install-server in a checkout of riseml {VERSION}"
        )

    def bring(self, url: str) -> str | None:
        """Forward a port; None where ssh keeps no connection. See `Endpoint`."""
        here = forward.bring(self._call(), url)
        if here:
            self._brought[url] = here
        return here

    def drop(self, url: str) -> None:
        """Stop forwarding the port of `bring(url)`."""
        if here := self._brought.pop(url, None):
            forward.drop(self._call(), here, url)

    def _call(self) -> options.Call:
        return options.call(self._address, self._environ, ask=not self._hurry)

    def _start(self, call: options.Call) -> socket.socket:
        quiet = self._reached or self._hurry is not None  # ssh's first complaint is enough
        remote = remote_command(self._environ, self._address)
        session = Session(call, self._address, remote, quiet=quiet)
        try:
            session.greet(self._hurry)
        except TimeoutError:
            session.end()
            raise Unreachable(f"the daemon {self.where} takes too long") from None
        except BaseException:
            session.end()
            raise
        self._reached = True
        self._sessions[session.connection] = session
        return session.connection
