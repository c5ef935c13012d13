"""Amounts in riseml.yml: whole numbers, CPUs, memory and durations.

Each function raises `ValueError` with a text to which the caller adds `, not …`.
"""

import math
import re

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,8}")  # YAML reads 010 as eight, people as ten
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_MEMORY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(?:([MGT])(?:i|iB)?)?", re.IGNORECASE)
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?",
    re.ASCII,
)
_LAST_UNIT = re.compile(
    r"(?:.*[0-9]([dhm]))?[0-9]+", re.ASCII
)  # of a number without a unit after it
_MEBIBYTES = {"": 1, "M": 1, "G": 1024, "T": 1024**2}
_SECONDS = (86400, 3600, 60, 1)


def whole(text: str, least: int = 0) -> int:
    """A whole number from `least` to 999,999,999."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("must be a whole number")
    if int(text) < least:
        raise ValueError(f"must be {least} or more")
    return int(text)


def cpus(text: str) -> float:
    """A number of CPUs, fractions included: `2`, `0.5`."""
    if _NUMBER.fullmatch(text):
        return float(text)
    raise ValueError("must be a number, 0 or more, such as 2 or 0.5")


def memory(text: str) -> int:
    """Memory in MiB, rounded up: `4096` (MiB), `512MiB`, `16GiB`, `1TiB`; `M`, `G`, `T` too."""
    if match := _MEMORY.fullmatch(text):
        return math.ceil(float(match[1]) * _MEBIBYTES[(match[2] or "").upper()])
    raise ValueError("must be a number of MiB, such as 4096, or have a unit, such as 16GiB")


def duration(text: str) -> float:
    """A time in seconds, more than 0: `90` (seconds), `45s`, `30m`, `1h30m`, `2h`, `1d`.

    A last number without a unit has the unit below the one before it: `1h30` is 90 minutes, `1m30` 90 seconds.
    """
    written = text
    if last := _LAST_UNIT.fullmatch(text):
        written += {"d": "h", "h": "m"}.get(last[1], "s")
    elif _NUMBER.fullmatch(text):
        written += "s"
    match = _DURATION.fullmatch(written)
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True))
        if match
        else 0
    )
    if seconds > 0:
        return seconds
    raise ValueError("must be a time, more than 0, such as 2h, 30m, 1h30m or 90 (seconds)")
