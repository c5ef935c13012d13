"""The far end of a connection through ssh: carries bytes between stdin, stdout and a socket.

`riseml pipe` runs this. Where a machine has no riseml, the text of this file is sent and any Python there runs it: it
uses only the standard library of Python 3.6. Before any other byte it writes the line `riseml-pipe: ready`, or
`riseml-pipe: KIND WHY`; KIND is the code of an error or one that `remote` names. A shell's start-up files may have
printed text before.
"""

import errno
import glob
import os
import socket
import struct
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


def own_sockets() -> "list[str]":
    """Where a daemon of this user may listen, in the order in which `riseml` itself looks.

    The last ones are what daemons wrote into their lock files: one that cron, su or an early log-in started listens
    elsewhere than in the directory of this log-in.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    bases = [f"{runtime}/rised"] if runtime.startswith("/") else []
    bases += [f"/run/user/{os.getuid()}/rised", f"/tmp/rised-{os.getuid()}"]  # noqa: S108 (checked)
    found = [f"{base}/rised.sock" for base in bases]
    state = os.environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):
        state = os.path.expanduser("~/.local/state")
    base = f"{glob.escape(state)}/rised"
    for lock in [*glob.glob(f"{base}/lock"), *sorted(glob.glob(f"{base}/*/lock"))]:
        try:
            fd = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)  # not held up by what is no file
            with open(fd, "rb") as file:
                found.append(os.fsdecode(file.read(4096).split(b"\n")[1]))
        except (OSError, IndexError):
            pass
    return found


def reach(path: str, *, mine: bool) -> socket.socket:
    """Connect to the socket at `path`; if `mine`, only to a process of this user: others can write to /tmp."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if mine and struct.unpack("3i", peer)[1] != os.getuid():
        raise ConnectionRefusedError(errno.ECONNREFUSED, "another user listens there")
    return connection


def main(machines: str, given: str = "") -> None:
    """Connect and carry bytes, on a machine without riseml.

    `given` is the path of a socket. Without it the machine's daemon is used, which listens at `machines`; where that
    is not there, the user's own.
    """
    system = not given and os.path.exists(machines)
    why = "you have no daemon that runs there"
    for path in [given or machines] if given or system else own_sockets():
        try:
            connection = reach(path, mine=not (given or system))
        except PermissionError:
            say(f"daemon you may not use the daemon at {path}; ask who runs it for permission")
            sys.exit(2)
        except (OSError, ValueError) as error:  # a path that no socket can have, too
            if given or system:
                why = f"there is none at {path} ({getattr(error, 'strerror', None) or error})"
        else:
            say("ready")
            carry(connection)
    say(f"no-daemon {why}, and riseml is not on PATH there to start one")
    sys.exit(2)


if __name__ == "__main__":
    main(*map(unquote, sys.argv[1:]))
