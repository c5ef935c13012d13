"""What makes a daemon the only one: its directories, and a lock each for its state directory and its socket.

The kernel drops a lock with its holder, however that dies. So a lock that is held proves that a daemon is there, and
whoever holds one may replace what a dead daemon left.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from rised.http.listener import prepare_directory
from rised.linux.files import PASSABLE, open_file
from rised.linux.processes import stop
from rised.log import log
from rised.runners.process import setpriv
from rised.settings import Settings
from rised.users import impersonation
from riseml_proto.errors import AlreadyRunning, DaemonError, describe

_STATE_LOCK = "lock"
_WRITES_PID = 1.0  # seconds within which who has taken a lock has written its pid
_PAUSE = 0.01


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


def stop_holder(settings: Settings) -> bool:
    """Stop the daemon that uses the state directory, and wait for its end; False where none does.

    Raises `DaemonError` where it may not be stopped, or cannot be told. Makes nothing.
    """
    path = os.path.join(settings.state_dir, _STATE_LOCK)
    try:
        with open(open_file(path, os.O_RDONLY), "rb") as file:
            pid = _pid_of_holder(file.fileno(), path)
            if pid is not None:
                stop(pid)
            return pid is not None
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        text = describe(error, f"the rised of {settings.state_dir}")
        raise DaemonError(f"{text}; stop it as the user whose it is, or as root") from None
    except OSError as error:
        raise DaemonError(
            f"{describe(error, path)}; a lock file belongs there: remove it"
        ) from None


def _pid_of_holder(fd: int, path: str) -> int | None:
    """The pid of the daemon that holds the lock; None where none does. Raises `DaemonError`.

    Who has just taken the lock has not written its pid yet, and the file may still have that of an earlier holder,
    which another process may have by now. So the kernel's list of locks has to name it, too.
    """
    deadline = time.monotonic() + _WRITES_PID
    while _is_held(fd):
        pid = _holder(fd)[0]
        if pid.isdigit() and _holds_a_lock(pid):
            return int(pid)
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    else:
        return None
    raise DaemonError(f"{path} is held, but by no process of this machine that wrote its pid there")


def _holds_a_lock(pid: str) -> bool:
    """Whether a process holds some lock for itself alone; true where the kernel does not list locks."""
    try:
        with open("/proc/locks", encoding="ascii") as file:
            words = [line.split() for line in file]
    except OSError:
        return True
    return any(line[1:5:2] == ["FLOCK", "WRITE"] and line[4] == pid for line in words)


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
        fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except OSError as error:
        raise DaemonError(f"{path} cannot be a lock file ({error.strerror}); remove it") from None
    with open(fd, "r+b", 0) as file:
        if not _take(fd):
            pid, socket = _holder(fd)
            text = f"{name} is in use by another rised (pid {pid})"
            if socket:
                text += f": use that one by --host unix://{socket}, or end it with rised --stop"
            raise AlreadyRunning(text)
        file.truncate()
        file.write(os.fsencode(f"{os.getpid()}\n{listens_at}\n"))
        yield


def _take(fd: int) -> bool:
    """Take the lock; False where another process holds it. One that only looks at it (`_is_held`) goes at once."""
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _is_held(fd):
                return False
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            return True


def _holder(fd: int) -> tuple[str, str]:
    """The pid and the socket that the holder of a lock wrote into the file."""
    pid, _, rest = os.fsdecode(os.pread(fd, 4096, 0)).partition("\n")
    return pid, rest.removesuffix("\n")


def unreachable_holder(lock: str, own: str) -> int | None:
    """The pid of a daemon that holds `lock` but that nobody can reach any more; None if there is none.

    Such a daemon lost its socket and the lock file beside it: all of /run/user/UID is removed when its user's last
    session ends. The caller holds the lock of `own`, its own socket.
    """
    with contextlib.suppress(OSError), open(open_file(lock, os.O_RDONLY), "rb") as file:
        if not _is_held(file.fileno()):
            return None
        pid, listens_at = _holder(file.fileno())
        if pid.isdigit() and listens_at and (listens_at == own or not _has_daemon(listens_at)):
            return int(pid)
    return None


def _has_daemon(path: str) -> bool:
    try:
        with open(open_file(path + ".lock", os.O_RDONLY), "rb") as file:
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
