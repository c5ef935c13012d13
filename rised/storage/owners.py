"""Owners as the database keeps them: JSON in a column of the experiments."""

import functools

import msgspec

from rised.storage.rows import ExperimentRow
from rised.users.owner import Owner, of_user


def encode(owner: Owner) -> str:
    """The value of the column `owner`."""
    return msgspec.json.encode(owner).decode()


def owner_of(row: ExperimentRow) -> Owner:
    """The owner of an experiment; from the user database where it was submitted to a person's own daemon."""
    return _decode(row.owner) if row.owner else of_user(row.uid)


@functools.lru_cache(maxsize=1024)
def _decode(text: str) -> Owner:
    return msgspec.json.decode(text, type=Owner)
