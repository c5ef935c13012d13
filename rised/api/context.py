"""What every handler works with, and the rules that hold for all of them."""

import os
from dataclasses import dataclass

from rised.bells import Bells
from rised.boards import Boards
from rised.gpus import Gpu
from rised.images import Images
from rised.job import TRAIN
from rised.journal import StoreJournal
from rised.ledger import Ledger
from rised.meters import Meters
from rised.revisions import Revisions
from rised.runners.base import Runner
from rised.scheduler import Scheduler
from rised.settings import Settings
from rised.store.records import ExperimentRow
from rised.store.store import Store
from rised.views import Views
from rised.web.request import Peer
from riseml_proto.errors import Forbidden, InvalidInput, NotFound
from riseml_proto.ids import CanonicalId, job_id, parse

ROOT = 0


@dataclass(frozen=True)
class Context:
    """One daemon, as its handlers see it."""

    settings: Settings
    store: Store
    ledger: Ledger
    scheduler: Scheduler
    revisions: Revisions
    images: Images
    boards: Boards
    runner: Runner
    views: Views
    journal: StoreJournal
    bells: Bells
    gpus: list[Gpu]
    meters: Meters

    def check_peer(self, peer: Peer) -> None:
        """A person's own daemon serves that person and root. Raises `Forbidden`."""
        if peer.uid not in (os.getuid(), ROOT):
            raise Forbidden(
                f"this daemon is user {os.getuid()}'s own; it does not serve {peer.user}"
            )

    def target(self, peer: Peer, text: str) -> tuple[CanonicalId, ExperimentRow]:
        """The experiment that an ID names. Raises `InvalidId`, `InvalidInput`, `NotFound`."""
        found = parse(text)
        if found.experiment is None:
            raise InvalidInput(f"{text} names a user; say which experiment, such as {text}.144")
        row = self.views.row(found.experiment)
        if found.user is not None and found.user != row.user:
            raise NotFound(f"{found.user} has no experiment {found.experiment}")
        if found.job in (None, TRAIN):
            there = not (found.job and row.members and not found.member)
        else:
            there = not found.member and self.store.job(row.id, found.job) is not None
        if not there:
            example = job_id(row.id, 1 if row.members else 0, TRAIN)
            raise NotFound(f"there is no job {text}; {row.id} has jobs such as {example}")
        return found, row

    def last(self, peer: Peer, project: str | None) -> int:
        """The caller's last experiment. Raises `NotFound`."""
        number = self.store.last(peer.user, project)
        if number is None:
            where = f" of project {project}" if project else ""
            raise NotFound(f"you have no experiment{where} yet; riseml train starts one")
        return number
