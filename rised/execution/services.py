"""What starting and watching a job needs, handed around as one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rised.experiments.transitions import Transitions
from rised.logs.watch import LogWatcher
from rised.revisions import Revisions
from rised.runners.base import Runner
from rised.storage.database import Database
from rised.storage.layout import Layout
from rised.subscriptions import Subscriptions


@dataclass(frozen=True, kw_only=True)
class Services:
    """One daemon's."""

    database: Database
    transitions: Transitions
    runner: Runner
    revisions: Revisions
    watcher: LogWatcher
    layout: Layout
    subscriptions: Subscriptions
    data_dir: str
    kill_grace: float
    """Seconds from SIGTERM to SIGKILL."""
    gpu_uuids: Mapping[int, str | None]
    """Index → UUID of each GPU, None where nobody knows it."""
    state_dir: str
    min_free: int
    """MiB of disk below which nothing is made that is not needed now."""

    def has_room(self) -> bool:
        """Whether more than `min_free` is free where working copies are made."""
        found = os.statvfs(self.state_dir)
        return found.f_bavail * found.f_frsize >> 20 > self.min_free
