"""The far end of a connection through ssh: stdin and stdout on one side, a socket on the other.

`riseml pipe` runs this; where a machine has no riseml, its text is sent and run by whatever Python
is there. So it needs nothing but the standard library of Python 3.6.

Before the first byte goes one line: `riseml-pipe: ready`, or `riseml-pipe: KIND WHY`, KIND being
the code of an error, or `unreachable`. A shell's start-up files may have printed something before.
"""

import os
import socket
import sys
import threading
from urllib.parse import unquote

MARK = b"riseml-pipe: "
_SIZE = 1 << 16


def say(text: str) -> None:
    """Write the first line."""
    _write(MARK + " ".join(text.split()).encode("utf-8", "replace") + b"\n")


def carry(connection: socket.socket) -> None:
    """Carry bytes both ways until `connection` has ended, and end the process.

    The end of stdin is passed on; what still comes from the socket is carried to its end.
    """
    threading.Thread(target=_upload, args=(connection,), daemon=True).start()
    try:
        while True:
            data = connection.recv(_SIZE)
            if not data:
                break
            _write(data)
    except OSError:  # one side is gone, and with it whoever could be told
        pass
    os._exit(0)  # the other thread may be waiting for stdin; nothing is buffered


def _upload(connection: socket.socket) -> None:
    try:
        while True:
            data = os.read(0, _SIZE)
            if not data:
                break
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:  # the daemon has hung up; what it said before is still on its way
        pass


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main(path: str) -> None:
    """Relay to the socket at `path`, on a machine without riseml."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except PermissionError:
        say(f"daemon you may not use the daemon at {path}; ask who runs it for permission")
        sys.exit(2)
    except OSError as error:
        why = error.strerror or error
        say(f"unreachable no riseml on PATH that could start a daemon, and none at {path} ({why})")
        sys.exit(2)
    say("ready")
    carry(connection)


if __name__ == "__main__":
    main(unquote(sys.argv[1]))
