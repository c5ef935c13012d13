"""What every handler works with, and the rules that hold for all handlers: who may ask, see and change what."""

import grp
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass

from rised.execution.images import Images
from rised.execution.services import Services
from rised.experiments.experiment import check_member
from rised.gpus.devices import GpuDevice
from rised.gpus.monitor import GpuMonitor
from rised.gpus.nvml import Nvml
from rised.queries.views import Views
from rised.scheduling.scheduler import Scheduler
from rised.scheduling.submission import Submissions
from rised.storage.rows import TRAIN, ExperimentRow
from rised.tensorboard.manager import TensorBoards
from rised.users.peer import Peer
from riseml_proto.errors import Forbidden, InvalidInput, NotFound
from riseml_proto.ids import CanonicalId, job_id, readings

ROOT = 0


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """The machine's GPUs, their monitor, and NVML, which reads their telemetry."""

    devices: Sequence[GpuDevice]
    monitor: GpuMonitor
    nvml: Nvml


@dataclass(frozen=True, kw_only=True)
class Context:
    """The parts of the daemon that handlers use, and the caller's rights to them."""

    services: Services
    scheduler: Scheduler
    submissions: Submissions
    images: Images
    tensorboards: TensorBoards
    views: Views
    gpus: Gpus

    def check_peer(self, peer: Peer) -> None:
        """Raise `Forbidden` for a caller that this daemon does not serve.

        A person's own daemon serves that person and root. A daemon with `--system` serves all users, or one group's.
        """
        settings = self.services.settings
        if settings.system:
            group = settings.group
            if not (group is None or _is_in(peer, group) or self.is_admin(peer)):
                raise Forbidden(
                    f"this daemon serves the members of the group {group}, and {peer.user} is none;"
                    " ask its administrator, then log in again"
                )
        elif peer.uid not in (os.getuid(), ROOT):
            raise Forbidden(
                f"this daemon is user {os.getuid()}'s own; it does not serve {peer.user}"
            )

    def is_admin(self, peer: Peer) -> bool:
        """Whether the caller may do everything that root may."""
        if peer.uid == ROOT or not self.services.settings.system:
            return True
        group = self.services.settings.admin_group
        return group is not None and _is_in(peer, group)

    def check_admin(self, peer: Peer) -> None:
        """Raise `Forbidden` for a caller who is no administrator of this daemon."""
        if not self.is_admin(peer):
            group = self.services.settings.admin_group
            members = f"root and members of the group {group}" if group else "root"
            raise Forbidden(f"only {members} may do this")

    def may(self, peer: Peer, row: ExperimentRow) -> bool:
        """Whether the caller may see all of an experiment and change it."""
        return row.uid == peer.uid or self.is_admin(peer)

    def target(self, peer: Peer, text: str) -> tuple[CanonicalId, ExperimentRow]:
        """The ID `text`, parsed, and the row of its experiment, which the caller may see and change.

        Raises `InvalidId`, `InvalidInput`, `NotFound`, `Forbidden`.
        """
        target = self._read(text)
        if target.experiment is None:
            self.check_user(text)
            raise InvalidInput(f"{text} names a user; say which experiment, such as {text}.144")
        row = self.views.row(target.experiment)
        if target.user is not None and target.user != row.user:
            raise NotFound(f"{target.user} has no experiment {target.experiment}")
        if not self.may(peer, row):
            raise Forbidden(
                f"{row.id} is {row.user}'s; riseml status --all-users shows all that others may see"
            )
        check_member(row.members, row.id, target.member)
        if target.job in (None, TRAIN):
            exists = not (target.job and row.members and not target.member)
        else:
            exists = (
                not target.member
                and self.services.database.jobs.get(row.id, target.job) is not None
            )
        if not exists:
            example = job_id(row.id, 1 if row.members else 0, TRAIN)
            raise NotFound(f"there is no job {text}; {row.id} has jobs such as {example}")
        return target, row

    def _read(self, text: str) -> CanonicalId:
        """The ID `text`: of two readings the one that there is, for a user's name may be a number."""
        first, *others = readings(text)
        experiments = self.services.database.experiments
        if first.experiment is None or experiments.get(first.experiment):
            return first
        return next((other for other in others if other.user and self._is_user(other.user)), first)

    def check_user(self, name: str) -> None:
        """Raise `NotFound` for the name of nobody: no user of this machine, and of no experiment."""
        if not self._is_user(name):
            raise NotFound(f"there is no user {name!r}; IDs look like 144 or 144.2")

    def _is_user(self, name: str) -> bool:
        if self.services.database.experiments.newest(name, None) is not None:
            return True
        try:
            pwd.getpwnam(name)
        except (KeyError, ValueError):  # or a name that none can be
            return False
        return True

    def last(self, peer: Peer, project: str | None) -> int:
        """The number of the caller's last experiment, of all projects or of one. Raises `NotFound`."""
        number = self.services.database.experiments.newest(peer.user, project)
        if number is None:
            where = f" of project {project}" if project else ""
            raise NotFound(f"you have no experiment{where} yet; riseml train starts one")
        return number


def _is_in(peer: Peer, name: str) -> bool:
    """Whether the kernel says that the caller is in the group; a group that was removed has no members."""
    try:
        group = grp.getgrnam(name).gr_gid
    except KeyError:
        return False
    return group == peer.gid or group in peer.groups
