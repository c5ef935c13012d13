"""One call of ssh: a connection to a daemon, or the reason why there is none.

ssh's stdin and stdout are one end of a socket pair, whose other end is the connection. Its stderr
is the user's, and what it has to ask it asks on the terminal; therefore it stays in the foreground.
"""

import socket
import subprocess
from typing import NoReturn

from riseml.ssh import relay
from riseml.ssh.options import Call
from riseml.ssh.remote import SEND, program
from riseml.transport.address import SshAddress
from riseml_proto.errors import DaemonError, SshFailed, from_code

PATIENCE = 300.0
"""Seconds for which a follower tries to get a lost connection back: a laptop moves and sleeps."""
_FAILED = 255  # ssh's exit code for an error of its own
_LONGEST_GREETING = 1 << 16  # bytes that a shell's start-up files may print
_GRACE = 2.0


class Session:
    """A running ssh. Ended by `end`, or by its connection's end."""

    def __init__(self, call: Call, command: str, address: SshAddress, *, quiet: bool) -> None:
        """Start it. `quiet`: what it complains of is not shown."""
        self._where = f"on {address.host}"
        self._try = f"ssh {address.destination}"
        self.connection, theirs = socket.socketpair()
        with theirs:
            try:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    [*call.argv, command],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL if quiet else None,
                )
            except BaseException:
                self.connection.close()
                raise

    def greet(self, timeout: float | None) -> None:
        """Wait until the other end is ready. `timeout`: for each piece of what it says, in seconds.

        Raises the error that it tells, `SshFailed` where ssh fails, `TimeoutError`.
        """
        self.connection.settimeout(timeout)
        try:
            said = self._first_line()
            if said == SEND:
                self.connection.sendall(program())
                said = self._first_line()
        except (BrokenPipeError, ConnectionResetError):
            self._explain()
        kind, _, text = said.partition(" ")
        if kind == "ready":
            return
        raise from_code(kind, f"{self._where}: {text}")

    def _first_line(self) -> str:
        """The next line that is marked as one, whatever comes before it."""
        seen = b""
        while not (line := _marked(seen)):
            data = self.connection.recv(4096)  # after that line nothing comes unasked
            seen += data
            if not data:
                self._explain()
            if len(seen) > _LONGEST_GREETING:
                raise DaemonError(
                    f"a shell {self._where} prints too much where nobody types at it; let its "
                    "start-up files be quiet there"
                )
        return line

    def lost(self) -> bool:
        """Whether ssh has failed; waits a moment for an ssh whose connection has just ended."""
        try:
            code: int = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return False
        return code == _FAILED or code < 0

    def gone(self) -> SshFailed:
        """What to say where it has."""
        return SshFailed(
            f"the connection to the daemon {self._where} is lost; try {self._try}",
            patience=PATIENCE,
            notice=f"the connection to the daemon {self._where} is lost; trying to get it back",
        )

    def end(self) -> None:
        """End it, if it has not ended; of a kept connection only this session."""
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
            f"{self._where}: riseml pipe ended without a word (exit code {code}); the riseml there "
            "may be too old, and ssh must be allowed to run a command there"
        )


def _marked(seen: bytes) -> str:
    _, marked, rest = seen.partition(relay.MARK)
    line, ended, _ = rest.partition(b"\n")
    return line.decode("utf-8", "replace") if marked and ended else ""
