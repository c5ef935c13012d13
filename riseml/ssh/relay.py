"""The far end of a connection through ssh: carries bytes between stdin, stdout and a socket.

`riseml pipe` runs this. Where a machine has no riseml, the text of this file is sent and any Python there runs it: it
uses only the standard library of Python 3.6. Before any other byte it writes the line `riseml-pipe: ready`, or
`riseml-pipe: KIND WHY` with the code of an error. A shell's start-up files may have printed text before.
"""

import os
import socket
import sys
import threading
from urllib.parse import unquote

MARK = b"riseml-pipe: "
_SIZE = 1 << 16


def say(text: str) -> None:
    """Write the first line, with `text` after the mark."""
    _write(MARK + " ".join(text.split()).encode("utf-8", "replace") + b"\n")


def carry(connection: socket.socket) -> None:
    """Carry bytes both ways until the daemon closes `connection`, then end the process.

    At the end of stdin only the socket's sending side is closed, so that the answer still arrives.
    """
    threading.Thread(target=_upload, args=(connection,), daemon=True).start()
    try:
        while True:
            data = connection.recv(_SIZE)
            if not data:
                break
            _write(data)
    except OSError:  # one side is gone, so nobody is left who could read an error
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
    except OSError:  # the daemon has hung up; its last bytes may still be on their way
        pass


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main(path: str) -> None:
    """Connect to the socket at `path` and carry bytes, on a machine without riseml."""
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
