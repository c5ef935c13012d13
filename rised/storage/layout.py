"""Paths of what people may want to read: logs in the state directory, outputs in the output directory."""

import contextlib
import os
import shutil

from rised.linux.files import PASSABLE, READ_UNTRUSTED, make_directory
from rised.storage.experiments import owner_of
from rised.storage.rows import ExperimentRow
from rised.users.impersonation import impersonating
from rised.users.owner import Owner

_LONGEST_URL = 200


class Layout:
    """Makes paths, and the directories above them."""

    def __init__(self, state_dir: str, output_dir: str) -> None:
        self._logs = os.path.join(state_dir, "logs")
        self._tensorboards = os.path.join(state_dir, "boards")
        self._output_dir = output_dir
        self.client = os.path.join(state_dir, "python")
        """The directory in which jobs find the package `riseml`, for `riseml.report_result`."""

    def log(self, experiment: int, member: int, job: str, attempt: int) -> str:
        """`logs/144/2.train.1.log`: the output of one attempt of a job."""
        name = f"{member}.{job}.{attempt}.log" if member else f"{job}.{attempt}.log"
        return os.path.join(self._logs, str(experiment), name)

    def board(self, name: str) -> str:
        """Directory for what a TensorBoard of this name writes."""
        return os.path.join(self._tensorboards, name)

    def board_url(self, name: str, owner: Owner) -> str | None:
        """The URL of a TensorBoard, once it can be reached."""
        try:
            with impersonating(owner):
                fd = os.open(os.path.join(self.board(name), "url"), READ_UNTRUSTED)
            with open(fd, encoding="ascii") as file:
                url = file.read(_LONGEST_URL)
        except (OSError, UnicodeDecodeError):
            return None
        return url if url.startswith("http://127.0.0.1:") and url.isprintable() else None

    def output(self, row: ExperimentRow, member: int = 0) -> str:
        """`<user>/<project>/144/2`, or `<user>/<project>/144` for member 0 and for a whole set."""
        parts = [self._output_dir, row.user, row.project, str(row.id)]
        return os.path.join(*parts, str(member)) if member else os.path.join(*parts)

    def make_output(self, row: ExperimentRow, member: int) -> str:
        """Make the output directory, with its owner's rights but for the user's own at the top. Raises `OSError`."""
        owner, path = owner_of(row), self.output(row, member)
        if owner.is_other:
            _make_home(os.path.join(self._output_dir, row.user), owner)
        with impersonating(owner):
            make_directory(path)
        return path

    def make_board(self, name: str, owner: Owner) -> None:
        """Make the directory of a TensorBoard that runs with its owner's rights. Raises `OSError`."""
        make_directory(self._tensorboards)
        if owner.is_other:
            os.chmod(self._tensorboards, PASSABLE)
            _make_home(self.board(name), owner)

    def remove_board(self, name: str, owner: Owner) -> None:
        """Remove the directory of a TensorBoard."""
        with impersonating(owner):
            shutil.rmtree(self.board(name), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(self.board(name))


def _make_home(path: str, owner: Owner) -> None:
    """Make a directory that only its owner can enter; the one above it is the daemon's, so that nobody can swap it."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
