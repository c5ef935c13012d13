"""What starting and watching a job needs, handed around as one."""

from rised.bells import Bells
from rised.layout import Layout
from rised.ledger import Ledger
from rised.logs.watch import LogWatcher
from rised.revisions import Revisions
from rised.runners.base import Runner
from rised.store.store import Store


class Workshop:
    """What every sub-experiment's life needs, in one place."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        runner: Runner,
        revisions: Revisions,
        watcher: LogWatcher,
        layout: Layout,
        bells: Bells,
        *,
        data_dir: str,
        kill_grace: float,
        gpu_uuids: dict[int, str | None],
        runs_images: bool,
    ) -> None:
        """`kill_grace` counts seconds; `runs_images` is false where the runner ignores `image`."""
        self.store = store
        self.ledger = ledger
        self.runner = runner
        self.revisions = revisions
        self.watcher = watcher
        self.layout = layout
        self.bells = bells
        self.data_dir = data_dir
        self.kill_grace = kill_grace
        self.gpu_uuids = gpu_uuids
        self.runs_images = runs_images
