"""Whether a user may start one more experiment: what quotas say at submission. All of it raises `QuotaExceeded`.

How many GPUs are used at once is the queue's matter; here it is only that a job asks for no more than it could ever
get.
"""

import os
import pwd
from collections import Counter
from collections.abc import Iterable

import trio

from rised.policy.quotas import Quota, Quotas
from rised.users.impersonation import impersonating
from rised.users.owner import Owner, of_user
from riseml_proto.config import Config
from riseml_proto.errors import QuotaExceeded

_FRESH_SECONDS = 60.0


class Admission:
    """One daemon's."""

    def __init__(self, quotas: Quotas, output_dir: str) -> None:
        """`output_dir` is where each user has a directory of outputs."""
        self._quotas = quotas
        self._output_dir = output_dir
        self._measured: dict[str, tuple[float, int]] = {}

    def check_gpus(self, user: str, owner: Owner, config: Config) -> None:
        """Refuse what could never start."""
        for account, quota in self._of(user, owner).items():
            if quota.gpus is not None and config.gpus > quota.gpus:
                raise QuotaExceeded(
                    f"{config.file}: train.resources.gpus: asks for {config.gpus}, and"
                    f" {_whose(account)} is {_count(quota.gpus, 'GPU')} at once; ask for less"
                )

    def check_queued(self, user: str, owner: Owner, unfinished: Iterable[tuple[str, ...]]) -> None:
        """Refuse one experiment more than may be unfinished; `unfinished` has the accounts of each that is."""
        limits = {name: quota.queued for name, quota in self._of(user, owner).items()}
        if all(most is None for most in limits.values()):
            return
        counts = Counter(account for accounts in unfinished for account in accounts)
        for account, most in limits.items():
            if most is not None and counts[account] >= most:
                raise QuotaExceeded(
                    f"{_whose(account)} is {_count(most, 'unfinished experiment')}, and that many"
                    " are there; wait for one to end, or riseml kill one"
                )

    async def check_disk(self, user: str, owner: Owner) -> None:
        """Refuse where outputs take as much as they may; what was measured counts for a minute."""
        for account, quota in self._of(user, owner).items():
            if quota.disk is None:
                continue
            used = await self._used(account, user, owner)
            if used >= quota.disk:
                raise QuotaExceeded(
                    f"{_whose(account)} is {quota.disk} MiB of outputs, and there are {used} in"
                    f" {self._output_dir}; remove some and wait a minute"
                )

    def _of(self, user: str, owner: Owner) -> dict[str, Quota]:
        return self._quotas.of(user, owner.all_groups)

    async def _used(self, account: str, user: str, owner: Owner) -> int:
        """MiB of an account's outputs."""
        now = trio.current_time()
        measured, used = self._measured.get(account, (-_FRESH_SECONDS, 0))
        if now - measured < _FRESH_SECONDS:
            return used
        users = [(user, owner)]
        kind, _, name = account.partition(":")
        if kind == "group":
            gid, _ = self._quotas.groups[name]
            users = [(name, rights) for name, rights in self._all() if gid in rights.all_groups]
        used = 0
        for member, rights in users:
            path = os.path.join(self._output_dir, member)
            used += await trio.to_thread.run_sync(measure, path, rights, abandon_on_cancel=True)
        self._measured[account] = now, used >> 20
        return used >> 20

    def _all(self) -> Iterable[tuple[str, Owner]]:
        """Everybody who has outputs, with the rights that the user database gives."""
        for name in os.listdir(self._output_dir):
            try:
                yield name, of_user(pwd.getpwnam(name).pw_uid)
            except KeyError:
                continue


def measure(path: str, owner: Owner) -> int:
    """Bytes on the disk below a directory, as far as its owner may look; links are not followed."""
    total, seen, left = 0, set[tuple[int, int]](), [path]
    with impersonating(owner):
        while left:
            try:
                with os.scandir(left.pop()) as entries:
                    for entry in entries:
                        found = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            left.append(entry.path)
                        elif found.st_nlink > 1:
                            if (found.st_dev, found.st_ino) in seen:
                                continue
                            seen.add((found.st_dev, found.st_ino))
                        total += found.st_blocks * 512
            except OSError:  # it has gone, or its owner may not look either
                continue
    return total


def _whose(account: str) -> str:
    kind, _, name = account.partition(":")
    return "your quota" if kind == "user" else f"the quota of {kind} {name}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
