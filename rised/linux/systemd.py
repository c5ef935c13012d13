"""The service manager that started the daemon, if one did: systemd, or what speaks its protocol.

See sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). A message is a datagram of `NAME=value` lines to the socket
in NOTIFY_SOCKET; sockets that the manager listens on are descriptors from 3 on. Both are meant for this process alone.
So their variables are removed from the environment, and no job inherits them.
"""

import os
import socket
from collections.abc import MutableMapping

import trio

_FIRST_FD = 3


class ServiceManager:
    """The service manager; where there is none, nothing happens."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes the manager's variables out of `environ`."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        pid = str(os.getpid())
        ours = environ.pop("WATCHDOG_PID", pid) == pid
        microseconds = environ.pop("WATCHDOG_USEC", "") if ours else ""
        self._watchdog = int(microseconds) / 1e6 if microseconds.isdigit() else 0.0
        count = environ.pop("LISTEN_FDS", "0")
        environ.pop("LISTEN_FDNAMES", None)
        self._sockets = int(count) if environ.pop("LISTEN_PID", "") == pid else 0

    def listening_socket(self) -> socket.socket | None:
        """The Unix socket that the manager listens on for the daemon; None where it does not."""
        if not self._sockets:
            return None
        os.set_inheritable(_FIRST_FD, False)
        return socket.socket(fileno=_FIRST_FD)

    def notify(self, **facts: object) -> None:
        """Send facts such as `READY=1` and `STATUS=text`. A manager that no longer listens is no error."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        text = "\n".join(f"{name}={value}" for name, value in facts.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            try:
                channel.sendto(text.encode(), socket.MSG_DONTWAIT, address)
            except OSError:
                return

    async def ping_watchdog(self) -> None:
        """Ping the watchdog twice in each interval that the manager asks for; return at once where it has none."""
        while self._watchdog:
            self.notify(WATCHDOG=1)
            await trio.sleep(self._watchdog / 2)
