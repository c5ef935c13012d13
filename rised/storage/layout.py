"""Where the daemon keeps what people may want to read: logs in its state directory, outputs in the output directory."""

import contextlib
import importlib.util
import os
import shutil

from rised.log import log
from rised.owners import Owner, owner_of
from rised.rights import acting_as
from rised.storage.rows import ExperimentRow

_AS_IT_IS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_URL = 200

PASSABLE = 0o711
"""Mode of a directory of the daemon's in which users have directories of their own."""


class Layout:
    """Paths, and the making of the directories above them."""

    def __init__(self, state_dir: str, output_dir: str) -> None:
        """Both absolute."""
        self._logs = os.path.join(state_dir, "logs")
        self._boards = os.path.join(state_dir, "boards")
        self._output_dir = output_dir
        self.client = os.path.join(state_dir, "python")
        """The directory in which jobs find the package `riseml`, for `riseml.report_result`."""

    def log(self, experiment: int, member: int, job: str, attempt: int) -> str:
        """`logs/144/2.train.1.log`: the output of one attempt of a job."""
        name = f"{member}.{job}.{attempt}.log" if member else f"{job}.{attempt}.log"
        return os.path.join(self._logs, str(experiment), name)

    def board(self, name: str) -> str:
        """What a TensorBoard of this name makes for itself."""
        return os.path.join(self._boards, name)

    def board_url(self, name: str, owner: Owner) -> str | None:
        """The URL of a TensorBoard, once it can be reached."""
        try:
            with acting_as(owner):
                fd = os.open(os.path.join(self.board(name), "url"), _AS_IT_IS)
            with open(fd, encoding="ascii") as file:
                found = file.read(_LONGEST_URL)
        except (OSError, UnicodeDecodeError):
            return None
        return found if found.startswith("http://127.0.0.1:") and found.isprintable() else None

    def output(self, row: ExperimentRow, member: int) -> str:
        """`<user>/<project>/144/2`, or `<user>/<project>/144` for member 0 and for a whole set."""
        parts = [self._output_dir, row.user, row.project, str(row.id)]
        return os.path.join(*parts, str(member)) if member else os.path.join(*parts)

    def make_output(self, row: ExperimentRow, member: int) -> str:
        """Make the output directory, with its owner's rights but for the user's own at the top. Raises `OSError`."""
        owner, path = owner_of(row), self.output(row, member)
        if owner.is_other:
            _make_home(os.path.join(self._output_dir, row.user), owner)
        with acting_as(owner):
            make_directory(path)
        return path

    def make_log(self, path: str, owner: Owner) -> None:
        """Make a log that its owner may write to, and nobody else read. Raises `OSError`."""
        make_directory(os.path.dirname(path))
        os.close(open_log(path, owner))

    def make_board(self, name: str, owner: Owner) -> None:
        """Make the directory of a TensorBoard that runs with its owner's rights. Raises `OSError`."""
        make_directory(self._boards)
        if owner.is_other:
            os.chmod(self._boards, PASSABLE)
            _make_home(self.board(name), owner)

    def remove_board(self, name: str, owner: Owner) -> None:
        """Remove what a TensorBoard made."""
        with acting_as(owner):
            shutil.rmtree(self.board(name), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(self.board(name))


def _make_home(path: str, owner: Owner) -> None:
    """Make a directory that is its owner's alone; the one above it belongs to the daemon, so nobody can swap it."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def open_log(path: str, owner: Owner) -> int:
    """Open a log for appending, made for `owner` if it is not there; a descriptor. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o666)
    if owner.is_other:
        give(fd, owner)
    return fd


def give(fd: int, owner: Owner) -> None:
    """Make the file behind a descriptor its owner's, whom alone it is for. Raises `OSError`."""
    os.fchmod(fd, 0o600)
    os.fchown(fd, owner.uid, owner.gid)


def make_owners(path: str, owner: Owner) -> None:
    """Make a file in a directory of the daemon's its owner's. Raises `OSError`."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give(fd, owner)
    finally:
        os.close(fd)


def link_client(directory: str) -> None:
    """Let `riseml` be in `directory`, where jobs have their Python look for it; where it cannot, jobs go without.

    With it goes `riseml_proto`, or a job with another riseml installed would have one of each. Jobs that run look there
    meanwhile.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask: every user's Python reads it
        for name in ("riseml", "riseml_proto"):
            _link(os.path.join(directory, name), _package(name))
    except OSError as error:
        log.error("jobs will not find riseml", directory=directory, error=str(error))


def _link(link: str, target: str) -> None:
    with contextlib.suppress(OSError):
        if os.readlink(link) == target:
            return
    new = f"{link}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(target, new)
    os.replace(new, link)


def client_package() -> str:
    """Path of the installed package `riseml`."""
    return _package("riseml")


def _package(name: str) -> str:
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return os.path.dirname(os.path.abspath(found.origin))


def write_file(path: str, data: bytes) -> None:
    """Make the file `path` hold `data`. What Python's own `open` adds would cost several times as much."""
    _write(path, os.O_TRUNC, data)


def overwrite(path: str, data: bytes) -> None:
    """Write `data` over the beginning of the file `path`, which takes no new room on the disk."""
    _write(path, 0, data)


def _write(path: str, flags: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o666)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def make_directory(path: str) -> None:
    """Make a directory and those above it, where they are not there."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        os.makedirs(path, mode=0o700, exist_ok=True)
