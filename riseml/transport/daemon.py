"""Find the daemon, and start the user's own one where none runs. The first rule that applies decides:

    --host or RISEML_HOST given     the daemon at that address, here or behind ssh
    host: in config.yml             the daemon at that address
    /run/rised/rised.sock exists    the machine's daemon, which serves every user
    its units are installed         an error: an own daemon would hand out the same GPUs again
    otherwise                       the user's own daemon, started by the first command that needs it

Only its user may be able to write to its socket's directory: anybody else could put a daemon of their own there.
"""

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from riseml.settings import configured_host, open_file, user_directory
from riseml.transport.address import SshAddress, parse
from riseml.transport.endpoint import Endpoint
from riseml.transport.unix import UnixSocket, is_private
from riseml_proto.default_socket import SYSTEM_SOCKET, user_socket
from riseml_proto.errors import DaemonError, Unreachable

if TYPE_CHECKING:
    import socket
    from io import FileIO

    from riseml.transport.http import Client

T = TypeVar("T")

UNITS = tuple(
    f"{place}/systemd/system/rised.socket"
    for place in ("/etc", "/usr/local/lib", "/usr/lib", "/lib")
)
"""One of them is there where a server is installed."""
START_TIMEOUT = 30.0
"""Seconds that a daemon may take to listen."""
_OPEN_TIMEOUT = 30.0  # seconds that a listening daemon may take to accept a connection


@contextmanager
def connect(host: str | None = None) -> "Iterator[Client]":
    """A connected client of the daemon at `host`, or of the one that the rules above find. Raises `RisemlError`."""
    from riseml.transport.http import Client  # takes 30 ms, which `riseml pipe` does not need

    address = configured_address(host, os.environ)
    path, own = local_socket(os.environ) if address is None else ("", False)
    with Client(endpoint(path if address is None else address)) as client:
        _reach(client.connect, path, own=own)
        yield client


def open_here(host: str | None = None) -> "socket.socket":
    """A connection to a daemon of this machine, for `riseml pipe`. Raises as `connect`.

    Addresses of other machines are ignored: a laptop and its server may share a home directory whose
    config.yml says `host: ssh://server`, and the server would call itself without end.
    """
    address = configured_address(host, os.environ)
    path, own = (address, False) if isinstance(address, str) else local_socket(os.environ)
    return _reach(lambda: UnixSocket(path).open(_OPEN_TIMEOUT), path, own=own)


def _reach(connect: Callable[[], T], path: str, *, own: bool) -> T:
    """The result of `connect`. Where the user's `own` daemon at `path` does not run, it is started."""
    try:
        return connect()
    except Unreachable:
        if not own:
            raise
    start(path, os.environ)
    return connect()


def configured_address(host: str | None, environ: Mapping[str, str]) -> str | SshAddress | None:
    """The address in `host`, RISEML_HOST or config.yml, as `parse` returns it; None where there is none."""
    if host := host or environ.get("RISEML_HOST"):
        return parse(host)
    return configured_host(environ)


def local_socket(environ: Mapping[str, str]) -> tuple[str, bool]:
    """The socket of a daemon of this machine, and whether it is the user's own. Raises `DaemonError`."""
    if os.path.exists(SYSTEM_SOCKET):
        return SYSTEM_SOCKET, False
    if any(os.path.exists(unit) for unit in UNITS):
        raise DaemonError(
            "this machine has a rised for all its users, which does not run; to start it:"
            " sudo systemctl start rised.socket"
        )
    path = own_socket(environ, os.getuid())
    return (path if os.path.exists(path) else recorded_socket(environ) or path), True


@functools.cache
def endpoint(address: str | SshAddress) -> Endpoint:
    """The endpoint at a path of this machine or behind ssh; of each there is one per process."""
    if isinstance(address, str):
        return UnixSocket(address)
    from riseml.ssh.host import SshHost  # takes 15 ms, only needed with ssh

    return SshHost(address, os.environ)


def own_socket(environ: Mapping[str, str], uid: int) -> str:
    """The socket of `uid`'s own daemon, in a directory that only `uid` can write to. Raises `DaemonError`."""
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


def recorded_socket(environ: Mapping[str, str]) -> str | None:
    """The socket of the user's running daemon, from its lock file; None where none runs.

    A daemon that cron, su or an early log-in started has another one than `own_socket`.
    """
    try:
        lock = os.path.join(os.path.dirname(log_file(environ)), "lock")
        with open(open_file(lock, os.O_RDONLY), "rb") as file:
            path = os.fsdecode(file.read(4096).split(b"\n")[1])
        _try(path)
    except (OSError, IndexError, DaemonError):
        return None
    return path


def _try(path: str) -> None:
    """Connect once. Raises `DaemonError` where no daemon listens at `path`."""
    UnixSocket(path).open(_OPEN_TIMEOUT).close()


def start(path: str, environ: Mapping[str, str]) -> None:
    """Start a daemon that listens at `path`, unless another client does, and wait until it listens.

    Raises `DaemonError` with the last line of the daemon's log where it does not start.
    """
    import fcntl

    with _opened(f"{path}.start", os.O_WRONLY | os.O_CREAT) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits while another client starts one
        try:
            _try(path)
        except Unreachable:
            _spawn(path, log_file(environ))


def log_file(environ: Mapping[str, str]) -> str:
    """Path of the daemon's own log, in $XDG_STATE_HOME, by default ~/.local/state."""
    base = user_directory(environ, "XDG_STATE_HOME", "~/.local/state")
    return os.path.join(base, "rised", "rised.log")


def _spawn(path: str, log: str) -> None:
    import select
    import subprocess

    from riseml.transport.ordinary import make_ordinary

    try:
        os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    except OSError as error:
        raise DaemonError(
            f"{os.path.dirname(log)}: {error.strerror}; rised keeps its state there: set "
            "XDG_STATE_HOME to a directory that you can write to"
        ) from None
    output = _opened(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as ready:
        with open(theirs, "wb", buffering=0), output:
            begin = os.fstat(output.fileno()).st_size
            options = ["--ready-fd", str(theirs), "--log-file", log]
            process = subprocess.Popen(
                [sys.executable, "-m", "rised", "--socket", path, *options],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs],
                start_new_session=True,
                umask=0o022,
            )
            make_ordinary(process.pid)
            process.returncode = 0  # otherwise subprocess warns that it still runs when we end
        if not select.select([ready], [], [], START_TIMEOUT)[0]:
            raise DaemonError(f"rised does not listen after {START_TIMEOUT:g} s; its log is {log}")
        came_up = ready.read(16)  # empty where it has ended
    if came_up:
        return
    try:
        _try(path)  # a daemon that was started by hand may have been faster
    except Unreachable:
        why = _last_line(log, begin)
        raise DaemonError(f"rised did not start: {why}; its log is {log}") from None


def _opened(path: str, flags: int) -> "FileIO":
    """A file that the client and the daemon need, to write to. Raises `DaemonError`."""
    try:
        return open(open_file(path, flags), "wb", buffering=0)
    except OSError as error:
        other = error.errno in (errno.EINVAL, errno.EISDIR)
        way_out = "move it away" if other else "rised cannot start without it"
        raise DaemonError(f"{path}: {error.strerror}; {way_out}") from None


def _last_line(log: str, begin: int) -> str:
    with open(log, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(begin if begin <= size else 0)  # the daemon has begun a new one
        lines = file.read().decode("utf-8", "replace").splitlines()
    # The last lines of a trio traceback are in a frame of bars.
    words = (line.strip(" |+-") for line in reversed(lines))
    said = next(filter(None, words), "it said nothing")
    return said.removeprefix("rised: ")
