"""What makes a daemon the only one: its directories, and a lock each for its state directory and its socket.

The kernel drops a lock with its holder, however that dies. So a lock that is held proves that a daemon is there, and
whoever holds one may replace what a dead daemon left.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from rised.http.listener import prepare_directory
from rised.linux.files import PASSABLE
from rised.linux.processes import stop
from rised.log import log
from rised.runners.process import setpriv
from rised.settings import Settings
from rised.users import impersonation
from riseml_proto.errors import AlreadyRunning, DaemonError, describe

_STATE_LOCK = "lock"


@contextlib.contextmanager
def hold(settings: Settings) -> Iterator[None]:
    """Make the daemon's directories and hold both locks.

    Raises `AlreadyRunning` where another daemon holds one, and `DaemonError` where a directory cannot be made.
    """
    _make_directories(settings)
    state_lock = os.path.join(settings.state_dir, _STATE_LOCK)
    with locked(settings.socket + ".lock", settings.socket):
        if (pid := unreachable_holder(state_lock, settings.socket)) is not None:
            log.info("ending the daemon that lost its socket; jobs run on", pid=pid)
            stop(pid)
        with locked(state_lock, settings.state_dir, settings.socket):
            yield


def stop_holder(settings: Settings) -> None:
    """Stop the daemon that uses the state directory, and wait for its end. Raises `DaemonError` where none does."""
    path = os.path.join(settings.state_dir, _STATE_LOCK)
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if _is_held(file.fileno()):
            stop(int(_holder(file.fileno())[0]))
            return
    raise DaemonError(f"no rised uses {settings.state_dir}")


def _make_directories(settings: Settings) -> None:
    shared = settings.system
    if shared:
        impersonation.check()
        setpriv.check()
        os.umask(0o022)  # users pass through what lies above
    try:
        for key in ("state-dir", "output-dir", "data-dir"):
            directory = getattr(settings, key.replace("-", "_"))
            if not os.path.isdir(directory):
                os.makedirs(directory, mode=0o700, exist_ok=True)
                if shared:  # users pass through it to what is theirs
                    os.chmod(directory, PASSABLE)
        key = "socket"
        prepare_directory(settings.socket, 0o755 if shared else 0o700)
    except OSError as error:
        text = f"{describe(error)}; name another --{key}, or {key} in config.yml"
        raise DaemonError(text) from None
    if shared:
        os.umask(0o077)


@contextlib.contextmanager
def locked(path: str, name: str, listens_at: str = "") -> Iterator[None]:
    """Hold the lock file `path` for what users call `name`, and write our pid and socket into the file.

    Raises `AlreadyRunning` where another daemon holds it, `DaemonError` where `path` cannot be a lock file.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DaemonError(f"{path} cannot be a lock file ({error.strerror}); remove it") from None
    with open(fd, "r+b", 0) as file:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, socket = _holder(fd)
            text = f"{name} is in use by another rised (pid {pid})"
            if socket:
                text += f": use that one by --host unix://{socket}, or end it with rised --stop"
            raise AlreadyRunning(text) from None
        file.truncate()
        file.write(os.fsencode(f"{os.getpid()}\n{listens_at}\n"))
        yield


def _holder(fd: int) -> tuple[str, str]:
    """The pid and the socket that the holder of a lock wrote into the file."""
    pid, _, rest = os.fsdecode(os.pread(fd, 4096, 0)).partition("\n")
    return pid, rest.removesuffix("\n")


def unreachable_holder(lock: str, own: str) -> int | None:
    """The pid of a daemon that holds `lock` but that nobody can reach any more; None if there is none.

    Such a daemon lost its socket and the lock file beside it: all of /run/user/UID is removed when its user's last
    session ends. The caller holds the lock of `own`, its own socket.
    """
    with contextlib.suppress(FileNotFoundError), open(lock, "rb") as file:
        if not _is_held(file.fileno()):
            return None
        pid, listens_at = _holder(file.fileno())
        if pid.isdigit() and listens_at and (listens_at == own or not _has_daemon(listens_at)):
            return int(pid)
    return None


def _has_daemon(path: str) -> bool:
    try:
        with open(path + ".lock", "rb") as file:
            return _is_held(file.fileno())
    except OSError:
        return False


def _is_held(fd: int) -> bool:
    """Whether another process holds the lock; if none does, the caller shares it until `fd` is closed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
