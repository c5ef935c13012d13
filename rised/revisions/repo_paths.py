"""Where a project's repository and pristine trees lie, and how to write there.

    <state_dir>/repositories/<user>/<project>.git    the bare repository
    <state_dir>/trees/<user>/<project>/<revision>    a pristine tree, made when a job first needs it

What is only half made has a name that starts with a dot, which no user or project has, or with
`TEMPORARY`.
"""

import os
from typing import NamedTuple

from riseml_proto.errors import InvalidInput

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
