"""Where the daemon keeps what people may want to read: logs in its state directory, outputs in the output directory."""

import contextlib
import importlib.util
import os

from rised.log import log
from rised.store.records import ExperimentRow


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

    def board_url(self, name: str) -> str | None:
        """The URL of a TensorBoard, once it can be reached."""
        try:
            with open(os.path.join(self.board(name), "url"), encoding="ascii") as file:
                return file.read()
        except OSError:
            return None

    def output(self, row: ExperimentRow, member: int) -> str:
        """`<user>/<project>/144/2`, or `<user>/<project>/144` for member 0 and for a whole set."""
        parts = [self._output_dir, row.user, row.project, str(row.id)]
        return os.path.join(*parts, str(member)) if member else os.path.join(*parts)


def link_client(directory: str) -> None:
    """Let `riseml` be in `directory`, where jobs have their Python look for it; where it cannot, jobs go without.

    With it goes `riseml_proto`, or a job with another riseml installed would have one of each. Jobs that run look there
    meanwhile.
    """
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
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
