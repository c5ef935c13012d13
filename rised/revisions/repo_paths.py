"""The paths of a project's repository and pristine trees.

    <state_dir>/repositories/<user>/<project>.git    the bare repository
    <state_dir>/trees/<user>/<project>/<revision>    a pristine tree, made when a job first needs it

Names of what is half made start with a dot, as no user's or project's name does, or with `TEMPORARY`.
"""

import os
from typing import NamedTuple

from riseml_proto.errors import InvalidInput

TEMPORARY = "tmp_rised_"  # `git gc` removes old files whose names start with tmp_, too
_LONGEST_NAME = (
    200  # bytes; a file name on Linux has at most 255, and prefixes and suffixes are added
)


class Project(NamedTuple):
    """The paths of a user's project."""

    user: str
    name: str
    repository: str
    trees: str


def project(state_dir: str, user: str, name: str) -> Project:
    """The paths of a project. Raises `InvalidInput` for names that could lead elsewhere."""
    for kind, text in (("user", user), ("project", name)):
        odd = not text or text.startswith(".") or not text.isprintable() or set(text) & set("/<>")
        if odd or len(text.encode()) > _LONGEST_NAME:
            raise InvalidInput(f"{text!r} cannot be the name of a {kind}; use letters and digits")
    return Project(
        user,
        name,
        os.path.join(state_dir, "repositories", user, f"{name}.git"),
        os.path.join(state_dir, "trees", user, name),
    )
