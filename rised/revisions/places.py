"""Where a project's repository and pristine trees lie, and how to write there.

    <state_dir>/repositories/<user>/<project>.git    the bare repository
    <state_dir>/trees/<user>/<project>/<revision>    a pristine tree, made when a job first needs it

What is only half made has a name that starts with a dot, which no user or project has, or with
`TEMPORARY`.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from riseml_proto.errors import InvalidInput, StorageFull

TEMPORARY = "tmp_rised_"  # `git gc` sweeps old files whose names start with tmp_, too
_LONGEST_NAME = 200  # bytes; a file name on Linux has at most 255, and ours get something added


class Project(NamedTuple):
    """A user's project and its directories."""

    user: str
    name: str
    repository: str
    trees: str


def project(state_dir: str, user: str, name: str) -> Project:
    """The places of a project. Raises `InvalidInput` for names that could lead elsewhere."""
    for what, text in (("user", user), ("project", name)):
        odd = not text or text.startswith(".") or not text.isprintable() or set(text) & set("/<>")
        if odd or len(text.encode()) > _LONGEST_NAME:
            raise InvalidInput(f"{text!r} cannot be the name of a {what}; use letters and digits")
    return Project(
        user,
        name,
        os.path.join(state_dir, "repositories", user, f"{name}.git"),
        os.path.join(state_dir, "trees", user, name),
    )


def make_private(path: str) -> None:
    """Make the directory `path` and those missing above it, for the owner only and durably."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_private(os.path.dirname(path))
        os.mkdir(path, 0o700)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Return when the names in `path` are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def disk_may_be_full(place: str) -> Iterator[None]:
    """Turn the kernel's word that a disk or quota has no room into `StorageFull` with `place`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(f"{place}: no room left on this disk; free some and try again") from error
