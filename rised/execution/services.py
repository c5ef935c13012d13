"""The parts of a daemon that starting and watching jobs needs, passed around as one."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rised.execution.start_gate import StartGate
from rised.experiments.transitions import Transitions
from rised.logs.watch import LogWatcher
from rised.revisions import Revisions
from rised.runners.base import Runner
from rised.runners.identity import JobIdentity, decode
from rised.settings import Settings
from rised.storage.database import Database
from rised.storage.layout import Layout
from rised.storage.rows import TRAIN
from riseml_proto.ids import job_id


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of one daemon that start and watch jobs."""

    database: Database
    transitions: Transitions
    runner: Runner
    revisions: Revisions
    watcher: LogWatcher
    settings: Settings
    gpu_uuids: Mapping[int, str | None]
    """Index → UUID of each GPU; None where it is unknown."""

    @cached_property
    def layout(self) -> Layout:
        """Where logs and outputs are."""
        return Layout(self.settings.state_dir, self.settings.output_dir)

    @cached_property
    def start_gate(self) -> StartGate:
        """What all starts pass, so that they do not crowd while the machine lacks something."""
        return StartGate()

    @cached_property
    def output_mount(self) -> str:
        """The mount point above the outputs when this was first asked; `/` where they have no disk of their own."""
        path = os.path.realpath(self.settings.output_dir)
        while not os.path.ismount(path):
            path = os.path.dirname(path)
        return path

    def check_output_mount(self) -> None:
        """Raise `OSError` where the disk for outputs is away: its mount would hide what is written meanwhile."""
        if self.output_mount != "/" and not os.path.ismount(self.output_mount):
            raise OSError(errno.ENODEV, "the disk is not mounted", self.output_mount)

    def has_room(self) -> bool:
        """Whether more than `min_free` is free where working copies are made."""
        stat = os.statvfs(self.settings.state_dir)
        return stat.f_bavail * stat.f_frsize >> 20 > self.settings.min_free

    def unended_jobs(self) -> dict[str, JobIdentity]:
        """The keys of jobs whose files a restart must not touch, and their identities."""
        members = {
            f"{job_id(row.id, member.member, TRAIN)}.{member.attempt}": decode(member.handle)
            for row in self.database.experiments.unfinished()
            for member in self.database.members.unended(row.id)
            if member.handle
        }
        own = {
            f"{job_id(row.experiment, 0, row.job)}.{row.attempt}": decode(row.handle)
            for row in self.database.jobs.unended()
            if row.handle
        }
        return members | own
