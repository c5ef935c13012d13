"""The time of day, as the daemon writes it down: milliseconds since the epoch, UTC."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return the time now."""
    return time.time_ns() // 1_000_000


def to_datetime(ms: int) -> datetime:
    """The same moment as messages carry it."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(moment: datetime) -> int:
    """The same moment as the daemon writes it down; a time without a zone is UTC."""
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
