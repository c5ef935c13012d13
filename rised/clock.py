"""The time of day as the daemon stores it: milliseconds since the epoch, UTC. Exact, to the year 9999."""

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> int:
    """Return the time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def to_datetime(ms: int) -> datetime:
    """Turn a stored time into that of messages."""
    return EPOCH + timedelta(milliseconds=ms)


def since_epoch(moment: datetime) -> timedelta:
    """What has passed from the epoch to `moment`; without a zone it is UTC."""
    return moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH
