"""How an attempt's end becomes a state."""

from enum import IntEnum


class KillMode(IntEnum):
    """Whether a person asked for an end, and how soon it must come. The higher mode wins."""

    NONE = 0
    GRACEFUL = 1
    """SIGTERM first, and SIGKILL after the grace period."""
    FORCE = 2
    """SIGKILL at once."""
