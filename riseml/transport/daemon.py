"""Find the daemon, and start the user's own one where none runs.

    --host or RISEML_HOST given     that one, here or behind ssh
    host: in config.yml             that one
    /run/rised/rised.sock exists    the machine's, which serves every user
    otherwise                       the user's own, wherever it listens; the first command that
                                    needs it starts it

Only the last one is ever started from here. It lies in a directory that only its user can write to,
or whoever else can would be obeyed as the daemon.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from riseml.settings import configured_host
from riseml.transport import address
from riseml.transport.address import SshAddress
from riseml.transport.endpoint import Endpoint, Unreachable
from riseml.transport.unix import UnixSocket, is_private
from riseml_proto.errors import DaemonError
from riseml_proto.places import SYSTEM_SOCKET, user_socket

if TYPE_CHECKING:
    import socket

    from riseml.transport.http import Client

T = TypeVar("T")

START_TIMEOUT = 30.0
"""Seconds that a daemon may take to listen."""
_OPEN_TIMEOUT = 30.0  # seconds that one that listens may take to accept a connection


@contextmanager
def connect(host: str | None = None) -> "Iterator[Client]":
    """A client of the daemon that `host` (default: $RISEML_HOST, else by the rules above) stands
    for.

    Raises `InvalidInput` for a host that is none, `DaemonError` where the daemon cannot be reached.
    """
    from riseml.transport.http import Client  # costs 30 ms, which the far end of ssh saves

    location = named(host, os.environ)
    path, own = found_here(os.environ) if location is None else ("", False)
    with Client(endpoint(path if location is None else location)) as client:
        _reach(client.connect, path, own=own)
        yield client


def open_here(host: str | None = None) -> "socket.socket":
    """A connection for a command that came through ssh: what names another machine is passed over.

    Homes may be shared by a laptop and its server, and `host: ssh://server` in one with them: the
    server would call itself for ever. Raises as `connect`.
    """
    location = named(host, os.environ)
    path, own = (location, False) if isinstance(location, str) else found_here(os.environ)
    return _reach(lambda: UnixSocket(path).open(_OPEN_TIMEOUT), path, own=own)


def _reach(connect: Callable[[], T], path: str, *, own: bool) -> T:
    """What `connect` gives; where it is the user's `own` daemon, at `path`, that is started first."""
    try:
        return connect()
    except Unreachable:
        if not own:
            raise
    start(path, os.environ)
    return connect()


def named(host: str | None, environ: Mapping[str, str]) -> str | SshAddress | None:
    """The daemon that somebody named, as a socket's path or an address; None where nobody did."""
    if host := host or environ.get("RISEML_HOST"):
        return address.parse(host)
    return configured_host(environ)


def found_here(environ: Mapping[str, str]) -> tuple[str, bool]:
    """The socket of this machine's daemon, and whether it is the user's own, which may be started.

    Raises `DaemonError`.
    """
    if os.path.exists(SYSTEM_SOCKET):
        return SYSTEM_SOCKET, False
    path = own_socket(environ, os.getuid())
    return (path if os.path.exists(path) else noted_socket(environ) or path), True


def endpoint(location: str | SshAddress) -> Endpoint:
    """A socket of this machine, or a host behind ssh, which keeps its connection for the next."""
    return UnixSocket(location) if isinstance(location, str) else _ssh_host(location)


@functools.cache
def _ssh_host(location: SshAddress) -> Endpoint:
    from riseml.ssh.host import SshHost  # costs 15 ms, which those without ssh save

    return SshHost(location, os.environ)


def own_socket(environ: Mapping[str, str], uid: int) -> str:
    """The socket of `uid`'s own daemon, in a directory that is then there and `uid`'s alone.

    Raises `DaemonError` where it cannot be.
    """
    path = user_socket(environ, uid, run_user=is_private(f"/run/user/{uid}", uid))
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
    if not is_private(directory, uid):
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
        _try(path)
    except (OSError, IndexError, DaemonError):
        return None
    return path


def _try(path: str) -> None:
    """Raises `DaemonError` where no daemon listens at `path`."""
    UnixSocket(path).open(_OPEN_TIMEOUT).close()


def start(path: str, environ: Mapping[str, str]) -> None:
    """Start a daemon at `path` and return when it listens there.

    Of several clients that try at once only one starts it. Raises `DaemonError` with the last
    line of its log where it does not come up.
    """
    import fcntl

    with open(f"{path}.start", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # lasts until whoever is starting one has seen it listen
        try:
            _try(path)
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
        _try(path)  # one that was started by hand may have been faster
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
