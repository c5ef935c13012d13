"""Canonical IDs: `[user.]144[.2][.train[.1]]`.

144               an experiment
144.2             the second sub-experiment of a set
144.2.train       its job; `144.build` and `144.tensorboard` are jobs of the experiment itself
paul.144.2        the second sub-experiment, with the name of its owner
paul              all of paul's experiments
"""

import re
from typing import NamedTuple

from riseml_proto.errors import InvalidId

JOB_TYPES = ("train", "build", "tensorboard", "master", "worker", "ps")

_ID = re.compile(
    r"(?:(?P<user>[A-Za-z_][\w.@-]*?)\.)?"
    r"(?P<experiment>\d{1,15})(?:\.(?P<member>\d{1,15}))?"
    rf"(?:\.(?P<job>{'|'.join(JOB_TYPES)})(?:\.(?P<number>\d{{1,15}}))?)?",
    re.ASCII,
)
_USER = re.compile(r"[A-Za-z_][\w.@-]*\$?", re.ASCII)


class CanonicalId(NamedTuple):
    """An ID. `experiment` is None where the ID is a user's name alone; `member` is None for a whole experiment."""

    experiment: int | None
    member: int | None = None
    job: str | None = None
    number: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        """The canonical text, which `parse` reads back."""
        return ".".join(str(part) for part in (self.user, *self[:4]) if part is not None)


def parse(text: str) -> CanonicalId:
    """Read a canonical ID. Raises `InvalidId` with examples of IDs."""
    match = _ID.fullmatch(text)
    if match:
        experiment, member, number = (
            None if match[name] is None else int(match[name])
            for name in ("experiment", "member", "number")
        )
        if experiment != 0 and member != 0:
            return CanonicalId(experiment, member, match["job"], number, match["user"])
    elif _USER.fullmatch(text):
        return CanonicalId(None, user=text)
    raise InvalidId(f"{text!r} is not an ID; IDs look like 144, 144.2 or 144.2.train")


def experiment_id(experiment: int, member: int) -> str:
    """`144.2`, or `144` for member 0, which stands for an experiment that is no set."""
    return f"{experiment}.{member}" if member else str(experiment)


def job_id(experiment: int, member: int, job: str) -> str:
    """`144.2.train`, or `144.train` for member 0."""
    return f"{experiment_id(experiment, member)}.{job}"


def column_width(experiment: int, count: int) -> int:
    """Width of the ID column of `experiment` with `count` sub-experiments: its longest job ID plus one blank."""
    longest = max(f"{experiment}.tensorboard", job_id(experiment, count, "train"), key=len)
    return len(longest) + 1
