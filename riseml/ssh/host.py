"""A machine behind ssh, as an `Endpoint`."""

import atexit
import select
import socket
from collections.abc import Mapping

from riseml.ssh import forward, options
from riseml.ssh.remote import command
from riseml.ssh.session import Lost, Session
from riseml.transport.address import SshAddress
from riseml.transport.endpoint import Unreachable


class SshHost:
    """The `Endpoint` of the daemon at `address`.

    A connection that nobody uses any more waits for the next who does, so that a command needs one.
    """

    remote = True

    def __init__(
        self, address: SshAddress, environ: Mapping[str, str], *, hurry: float | None = None
    ) -> None:
        """`hurry`: answer within so many seconds, or not at all: ask for nothing, say nothing, and
        use a kept connection only.
        """
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
        """A connection; see `Endpoint`.

        It takes as long as a person needs for a password; how long the daemon may take, the other
        end knows.
        """
        idle, self._idle = self._idle, None
        if idle:
            if _is_quiet(idle):
                return idle
            self.release(idle, idle=False)
        call = self._call()
        was_open = call.open
        if self._hurry and not was_open:
            raise Unreachable(f"no connection to the daemon {self.where} is kept")
        try:
            return self._start(call)
        except Lost:
            if not was_open:
                raise
        return self._start(call)  # the kept one was dead, and now it is known to be

    def release(self, connection: socket.socket, *, idle: bool) -> None:
        """Keep the connection, or end it."""
        if idle and not self._idle:
            self._idle = connection
        else:
            self._sessions.pop(connection).end()

    def close(self) -> None:
        """End all that is left."""
        self._idle = None
        while self._sessions:
            self._sessions.popitem()[1].end()

    def cut(self, connection: socket.socket) -> Unreachable:
        """What to say of a connection that ended too early."""
        session = self._sessions[connection]
        if session.lost():
            return session.gone()
        return Unreachable(
            f"the daemon {self.where} hung up in the middle of an answer; try again, and if it "
            "happens again, its log tells why"
        )

    def how_to_restart(self, connection: socket.socket | None) -> str:
        """For the machine's daemon, and for a user's own."""
        return " there (systemctl restart rised, or rised --stop)"

    def bring(self, url: str) -> str | None:
        """The URL here for a URL there; None where no connection is kept. See `Endpoint`."""
        here = forward.bring(self._call(), url)
        if here:
            self._brought[url] = here
        return here

    def drop(self, url: str) -> None:
        """Undo `bring(url)`."""
        if here := self._brought.pop(url, None):
            forward.drop(self._call(), here, url)

    def _call(self) -> options.Call:
        return options.call(self._address, self._environ, ask=not self._hurry)

    def _start(self, call: options.Call) -> socket.socket:
        quiet = self._reached or self._hurry is not None  # the first failure tells enough
        session = Session(call, command(self._address.socket), self._address, quiet=quiet)
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


def _is_quiet(connection: socket.socket) -> bool:
    """Whether nothing has come: from an idle connection only its end can."""
    return not select.select([connection], [], [], 0)[0]
