"""Canonical IDs: `[user.]144[.2][.train[.1]]`.

144               an experiment
144.2             the second sub-experiment of a set
144.2.train       its job; `144.build` and `144.tensorboard` are jobs of the experiment itself
paul.144.2        the second sub-experiment, with the name of its owner
paul              all of paul's experiments

A user's name may be a number, or hold a domain: `91234567.144.2`, `LAB\\paul.144`. Then a text has several readings.
"""

import re
from typing import NamedTuple

from riseml_proto.errors import InvalidId

JOB_TYPES = ("train", "build", "tensorboard", "master", "worker", "ps")

_NAME = r"(?:[A-Za-z_\\][\w.@\\+-]*?|\d[\w@\\+-]*?)"
_EXPERIMENT = (
    r"(?P<experiment>\d{1,15})(?:\.(?P<member>\d{1,15}))?"
    rf"(?:\.(?P<job>{'|'.join(JOB_TYPES)})(?:\.(?P<number>\d{{1,15}}))?)?"
)
_PLAIN = re.compile(_EXPERIMENT, re.ASCII)
_OWNED = re.compile(rf"(?P<user>{_NAME})\.{_EXPERIMENT}", re.ASCII)
_USER = re.compile(rf"{_NAME}\$?", re.ASCII)


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
    """Read a canonical ID: its first reading. Raises `InvalidId` with examples of IDs."""
    return readings(text)[0]


def readings(text: str) -> list[CanonicalId]:
    """What `text` may mean: an experiment, one of a named user's, or all of a user's. Raises `InvalidId`."""
    found = []
    for pattern in (_PLAIN, _OWNED):
        if match := pattern.fullmatch(text):
            experiment, member, number = (
                None if match[name] is None else int(match[name])
                for name in ("experiment", "member", "number")
            )
            if experiment != 0 and member != 0:
                user = match.groupdict().get("user")
                found.append(CanonicalId(experiment, member, match["job"], number, user))
    if _USER.fullmatch(text) and (found or not text.isdigit()) and not _OWNED.fullmatch(text):
        found.append(CanonicalId(None, user=text))
    if not found:
        raise InvalidId(f"{text!r} is not an ID; IDs look like 144, 144.2 or 144.2.train")
    return found


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
