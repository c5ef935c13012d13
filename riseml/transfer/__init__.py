"""Copying files between this machine and the daemon's directories. An interrupted copy can be continued."""

from collections.abc import Callable

Warn = Callable[[str], None]
"""Is called with a sentence about each file that cannot be copied, while the others still are."""
