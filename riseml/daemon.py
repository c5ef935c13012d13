"""Find the daemon, and start the user's own one where none runs.

    --host or RISEML_HOST given     that one
    /run/rised/rised.sock exists    the machine's, which serves every user
    otherwise                       the user's own, wherever it listens; the first command that
                                    needs it starts it

Only the last one is ever started from here. It lies in a directory that only its user can write to,
or whoever else can would be obeyed as the daemon.
"""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote

from riseml.http import Client, Unreachable
from riseml_proto.errors import DaemonError, InvalidInput
from riseml_proto.places import SYSTEM_SOCKET, user_socket

START_TIMEOUT = 30.0
"""Seconds that a daemon may take to listen."""


@contextmanager
def connect(host: str | None = None) -> Iterator[Client]:
    """A client of the daemon that `host` (default: $RISEML_HOST, else by the rules above) stands
    for.

    Raises `InvalidInput` for a host that is none, `DaemonError` where the daemon cannot be reached.
    """
    host = host or os.environ.get("RISEML_HOST")
    if host:
        path, own = socket_of(host), False
    elif os.path.exists(SYSTEM_SOCKET):
        path, own = SYSTEM_SOCKET, False
    else:
        path, own = own_socket(os.environ, os.getuid()), True
        if not os.path.exists(path):
            path = noted_socket(os.environ) or path
    with Client(path) as client:
        try:
            client.connect()
        except Unreachable:
            if not own:
                raise
            start(path, os.environ)
            client.connect()
        yield client


def socket_of(host: str) -> str:
    """The socket's path in `unix:///path`. Raises `InvalidInput`."""
    scheme, _, rest = host.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return unquote(rest)
    if scheme == "ssh":
        raise InvalidInput(
            f"{host}: ssh:// is not supported by this version; run riseml on that machine, "
            "or forward its socket with ssh -L and use unix:///path"
        )
    raise InvalidInput(
        f"{host!r} is no daemon's address; --host and RISEML_HOST take unix:///path/of/its/socket, "
        "and ssh://[user@]host[:port][/path] in a later version"
    )


def own_socket(environ: Mapping[str, str], uid: int) -> str:
    """The socket of `uid`'s own daemon, in a directory that is then there and `uid`'s alone.

    Raises `DaemonError` where it cannot be.
    """
    path = user_socket(environ, uid, run_user=_is_private(f"/run/user/{uid}", uid))
    directory = os.path.dirname(path)
    try:
        os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
        os.mkdir(directory, mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise DaemonError(
            f"{directory}: {error.strerror}; "
            "set XDG_RUNTIME_DIR to a directory of your own, or unset it"
        ) from None
    if not _is_private(directory, uid):
        raise DaemonError(
            f"{directory} is not a directory that only you can write to, so what listens there may "
            "not be yours; remove it, or set XDG_RUNTIME_DIR to a directory of your own"
        )
    return path


def noted_socket(environ: Mapping[str, str]) -> str | None:
    """Where the user's own daemon listens, if one runs that was started with another runtime
    directory: by cron, by su, or before a log-in that has one.
    """
    try:
        with open(os.path.join(os.path.dirname(log_file(environ)), "lock"), "rb") as file:
            path = os.fsdecode(file.read(4096).split(b"\n")[1])
        with Client(path) as client:
            client.connect()
    except (OSError, IndexError, DaemonError):
        return None
    return path


def _is_private(directory: str, uid: int) -> bool:
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & others


def start(path: str, environ: Mapping[str, str]) -> None:
    """Start a daemon at `path` and return when it listens there.

    Of several clients that try at once only one starts it. Raises `DaemonError` with the last
    line of its log where it does not come up.
    """
    import fcntl

    with open(f"{path}.start", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # lasts until whoever is starting one has seen it listen
        try:
            with Client(path) as client:
                client.connect()
        except Unreachable:
            _spawn(path, log_file(environ))


def log_file(environ: Mapping[str, str]) -> str:
    """Where the daemon's own log lies: in $XDG_STATE_HOME, by default ~/.local/state."""
    state = environ.get("XDG_STATE_HOME", "")
    base = state if state.startswith("/") else os.path.expanduser("~/.local/state")
    return os.path.join(base, "rised", "rised.log")


def _spawn(path: str, log: str) -> None:
    import select
    import subprocess

    try:
        os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    except OSError as error:
        raise DaemonError(
            f"{os.path.dirname(log)}: {error.strerror}; rised keeps its state there: set "
            "XDG_STATE_HOME to a directory that you can write to"
        ) from None
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as ready:
        with open(theirs, "wb", buffering=0), open(log, "ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "rised", "--socket", path, "--ready-fd", str(theirs)],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs],
                start_new_session=True,
            )
            process.returncode = 0  # it outlives us: without this, subprocess would complain
        if not select.select([ready], [], [], START_TIMEOUT)[0]:
            raise DaemonError(f"rised does not listen after {START_TIMEOUT:g} s; its log is {log}")
        came_up = ready.read(16)  # nothing: it has ended
    if came_up:
        return
    try:
        with Client(path) as client:  # one that was started by hand may have been faster
            client.connect()
    except Unreachable:
        why = _last_line(log, begin)
        raise DaemonError(f"rised did not start: {why}; its log is {log}") from None


def _last_line(log: str, begin: int) -> str:
    with open(log, "rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").splitlines()
    # The last words of a crash stand in a frame of bars.
    words = (line.strip(" |+-") for line in reversed(lines))
    said = next(filter(None, words), "it said nothing")
    return said.removeprefix("rised: ")
