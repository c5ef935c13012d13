"""What starting and watching a job needs, handed around as one."""

from collections.abc import Mapping
from dataclasses import dataclass

from rised.bells import Bells
from rised.layout import Layout
from rised.ledger import Ledger
from rised.logs.watch import LogWatcher
from rised.revisions import Revisions
from rised.runners.base import Runner
from rised.store.store import Store


@dataclass(frozen=True)
class Workshop:
    """One daemon's."""

    store: Store
    ledger: Ledger
    runner: Runner
    revisions: Revisions
    watcher: LogWatcher
    layout: Layout
    bells: Bells
    data_dir: str
    kill_grace: float
    """Seconds from SIGTERM to SIGKILL."""
    gpu_uuids: Mapping[int, str | None]
    """Index → UUID of each GPU, None where nobody knows it."""
    runs_images: bool
    """False where the runner ignores `image`."""
