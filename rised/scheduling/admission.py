"""What quotas allow at submission. Whoever has reached one meets `QuotaExceeded`.

How many GPUs are used at once is the queue's matter. Here a job is refused only if it asks for more than it could ever
get.
"""

import os
import pwd
from collections.abc import Collection, Iterator

import trio

from rised.policy.quotas import Quota, Quotas
from rised.users.impersonation import impersonating
from rised.users.owner import Owner, of_user
from riseml_proto.config import Config
from riseml_proto.errors import QuotaExceeded
from riseml_proto.waiting import counted

_FRESH_SECONDS = 60.0
"""How long a measurement of outputs counts."""


class Admission:
    """Checks submissions against the quotas of their accounts."""

    def __init__(self, quotas: Quotas, output_dir: str) -> None:
        """`output_dir` is where each user has a directory of outputs."""
        self._quotas = quotas
        self._output_dir = output_dir
        self._measured: dict[str, tuple[float, int]] = {}
        """Account → when its outputs were measured, and their MiB."""

    def check_gpus(self, user: str, owner: Owner, config: Config) -> None:
        """Refuse an experiment whose sub-experiments could never start."""
        for account, quota in self._quotas_of(user, owner).items():
            if quota.gpus is not None and config.gpus > quota.gpus:
                raise QuotaExceeded(
                    f"{config.file}: train.resources.gpus: asks for {config.gpus}, and"
                    f" {_whose(account)} is {counted(quota.gpus, 'GPU')} at once; ask for less"
                )

    def check_queued(
        self, user: str, owner: Owner, unfinished: Collection[tuple[str, ...]]
    ) -> None:
        """Refuse one experiment more than an account may have unfinished.

        `unfinished` has, for each unfinished experiment, the accounts that it counts against.
        """
        for account, quota in self._quotas_of(user, owner).items():
            limit = quota.queued
            if limit is not None and sum(account in accounts for accounts in unfinished) >= limit:
                raise QuotaExceeded(
                    f"{_whose(account)} is {counted(limit, 'unfinished experiment')}, and that many"
                    " are there; wait for one to end, or riseml kill one"
                )

    async def check_disk(self, user: str, owner: Owner) -> None:
        """Refuse an experiment of an account whose outputs take as much disk as they may."""
        for account, quota in self._quotas_of(user, owner).items():
            if quota.disk is None:
                continue
            used = await self._used_disk(account, user, owner)
            if used >= quota.disk:
                raise QuotaExceeded(
                    f"{_whose(account)} is {quota.disk} MiB of outputs, and there are {used} in"
                    f" {self._output_dir}; remove some and wait a minute"
                )

    def _quotas_of(self, user: str, owner: Owner) -> dict[str, Quota]:
        return self._quotas.of(user, owner.all_groups)

    async def _used_disk(self, account: str, user: str, owner: Owner) -> int:
        """MiB of an account's outputs, measured at most once a minute."""
        now = trio.current_time()
        measured_at, used = self._measured.get(account, (-_FRESH_SECONDS, 0))
        if now - measured_at < _FRESH_SECONDS:
            return used
        members = [(user, owner)]
        kind, _, name = account.partition(":")
        if kind == "group":
            gid, _ = self._quotas.groups[name]
            members = [member for member in self._all_users() if gid in member[1].all_groups]
        size = 0
        for member, rights in members:
            path = os.path.join(self._output_dir, member)
            size += await trio.to_thread.run_sync(
                measure_disk, path, rights, abandon_on_cancel=True
            )
        self._measured[account] = now, size >> 20
        return size >> 20

    def _all_users(self) -> Iterator[tuple[str, Owner]]:
        """Everybody who has outputs, with the rights that the user database gives."""
        for name in os.listdir(self._output_dir):
            try:
                yield name, of_user(pwd.getpwnam(name).pw_uid)
            except KeyError:
                continue


def measure_disk(path: str, owner: Owner) -> int:
    """Bytes on the disk below a directory, as far as its owner may look; links are not followed."""
    total, seen, directories = 0, set[tuple[int, int]](), [path]
    with impersonating(owner):
        while directories:
            try:
                with os.scandir(directories.pop()) as entries:
                    for entry in entries:
                        stat = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            directories.append(entry.path)
                        elif stat.st_nlink > 1:
                            if (stat.st_dev, stat.st_ino) in seen:
                                continue
                            seen.add((stat.st_dev, stat.st_ino))
                        total += stat.st_blocks * 512
            except OSError:  # it has gone, or its owner may not look either
                continue
    return total


def _whose(account: str) -> str:
    kind, _, name = account.partition(":")
    return "your quota" if kind == "user" else f"the quota of {kind} {name}"
