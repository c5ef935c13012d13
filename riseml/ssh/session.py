"""One run of ssh: a connection to a daemon, or the error that says why there is none.

ssh's stdin and stdout are one end of a socket pair, the other end is the connection. ssh asks for passwords on the
terminal, so it stays in the foreground.
"""

import re
import socket
import subprocess
from typing import NoReturn

from riseml.settings import RemoteCommand
from riseml.ssh import relay
from riseml.ssh.options import Call
from riseml.ssh.remote import NO_COMMAND, NO_DAEMON, NO_PYTHON, SEND, command, program
from riseml.transport.address import SshAddress
from riseml_proto.errors import DaemonError, SshFailed, Unreachable, from_code

PATIENCE = 300.0
"""Seconds for which a client tries to get a lost connection back: laptops sleep and change networks."""
_FAILED = 255  # ssh's exit code for an error of its own
_LONGEST_GREETING = 1 << 16  # bytes that a shell's start-up files may print
_GRACE = 2.0  # seconds that ssh gets to end


class Session:
    """A running ssh. It ends by `end`, or when its connection is closed."""

    def __init__(
        self, call: Call, address: SshAddress, remote: RemoteCommand, *, quiet: bool
    ) -> None:
        """Start ssh. `quiet`: its messages are not shown."""
        self._remote = remote
        self._where = f"on {address.host}"
        self._try = f"ssh {address.destination}"
        self.connection, theirs = socket.socketpair()
        with theirs:
            try:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    [*call.argv, command(address.socket, remote.text)],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL if quiet else None,
                )
            except BaseException:
                self.connection.close()
                raise

    def greet(self, timeout: float | None) -> None:
        """Wait until the other end is ready; `timeout`: seconds for each piece of its first line. Raises why not."""
        self.connection.settimeout(timeout)
        try:
            line = self._first_line()
            if line == SEND:
                self.connection.sendall(program())
                line = self._first_line()
        except (BrokenPipeError, ConnectionResetError):
            self._explain()
        kind, _, text = line.partition(" ")
        if kind == "ready":
            return
        if kind == NO_COMMAND:
            raise DaemonError(
                f"{self._where}: there is no command {self._remote.text}; {self._remote.hint}"
            )
        if kind in (NO_DAEMON, NO_PYTHON):
            error = Unreachable if kind == NO_DAEMON else DaemonError
            raise error(f"{self._where}: {text}; install riseml there, or {self._remote.hint}")
        raise from_code(kind, f"{self._where}: {text}")

    def _first_line(self) -> str:
        """The next line with the mark; text before it is ignored."""
        seen = b""
        while not (line := re.search(re.escape(relay.MARK) + rb"([^\n]+)\n", seen)):
            data = self.connection.recv(4096)  # nothing follows that line until we send something
            seen += data
            if not data:
                self._explain()
            if len(seen) > _LONGEST_GREETING:
                raise DaemonError(
                    f"a shell {self._where} prints too much where nobody types at it; let its "
                    "start-up files be quiet there"
                )
        return line[1].decode("utf-8", "replace")

    def lost(self) -> bool:
        """Whether ssh has failed. Waits up to 2 s for an ssh whose connection has just ended."""
        try:
            code: int = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return False
        return code == _FAILED or code < 0

    def gone(self) -> SshFailed:
        """The error for a connection that was lost because ssh failed."""
        return SshFailed(
            f"the connection to the daemon {self._where} is lost; try {self._try}",
            patience=PATIENCE,
            notice=f"the connection to the daemon {self._where} is lost; trying to get it back",
        )

    def end(self) -> None:
        """End ssh. A connection that ssh keeps for other sessions stays open."""
        self.connection.close()
        self._process.terminate()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _explain(self) -> NoReturn:
        if self.lost():
            raise SshFailed(
                f"ssh cannot reach the daemon {self._where}; when {self._try} works, this does, too",
                patience=PATIENCE,
            )
        code = self._process.poll()
        raise DaemonError(
            f"{self._where}: {self._remote.text or 'riseml'} pipe ended without a word (exit code "
            f"{code}); the riseml there may be too old or broken, and ssh must be allowed to run a "
            f"command there; for another riseml {self._remote.hint}"
        )
