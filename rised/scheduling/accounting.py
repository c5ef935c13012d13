"""Who has had which turn, and what of all that runs counts for the next one: the facts that the queue's law decides on.

What is remembered here between decisions lives as long as the daemon; only what users have used outlives it. Times are
trio's, so that nobody who sets the clock changes whose turn it is; use alone is counted by the clock that the database
has its times of.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

import trio

from rised.clock import now_ms
from rised.experiments.experiment import Experiment
from rised.policy import queue
from rised.policy.fair_order import QUANTUM, fair_order
from rised.policy.fairshare import FairShare
from rised.policy.forecast import RunningBatch, forecast
from rised.policy.queue import Decision
from rised.policy.quotas import Quotas
from rised.policy.resources import Grant, Inventory, ResourceRequest
from rised.policy.workload import Machine, Running, Waiting, billed_gpus
from rised.storage.owners import owner_of
from rised.storage.rows import MemberRow
from riseml_proto.states import State

Key = tuple[int, int]


class UsageAccounting:
    """One scheduler's."""

    def __init__(
        self, inventory: Inventory, share: FairShare, quotas: Quotas, *, kill_grace: float
    ) -> None:
        """`share` is the ledger's; `kill_grace`, in seconds, is how long a job may go on after its time limit."""
        self._inventory = inventory
        self._share = share
        self._quotas = quotas
        self._grace = kill_grace
        self._running: dict[Key, Running] = {}
        self._began: dict[Key, tuple[Experiment, int | None]] = {}
        self._held: Counter[str] = Counter()
        self._caps: dict[str, int] = {}
        self._reserved: int | None = None
        self._served: dict[int, float] = {}
        self.drained: str | None = None
        """Why nothing starts; None where it does."""

    def take_in(self, experiment: Experiment) -> None:
        """Let an experiment know for which accounts it counts, and how long one of its members holds what it has."""
        row = experiment.row
        quotas = self._quotas.of(row.user, owner_of(row).all_groups)
        caps = {name: quota.gpus for name, quota in quotas.items() if quota.gpus is not None}
        self._caps.update(caps)
        experiment.accounts = tuple(quotas)
        experiment.max_runtime = self._longest(experiment, 0)
        experiment.eligible_since = trio.current_time() - max(0, now_ms() - row.created_ms) / 1000

    def _longest(self, experiment: Experiment, failures: int) -> float | None:
        """Seconds within which a member that has failed so often has surely ended, retries and all."""
        config = experiment.config
        if config.time_limit is None:
            return None
        return (config.retries + 1 - failures) * (config.time_limit + self._grace)

    def granted(self, key: Key, experiment: Experiment, row: MemberRow, grant: Grant) -> None:
        """A member that is as `row` says holds `grant`."""
        back = len(set(grant.gpus) & set(self._inventory.gpus))
        until = None
        if experiment.max_runtime is not None:
            until = trio.current_time() + experiment.max_runtime
        self._running[key] = Running(ResourceRequest(grant.cpus, grant.mem, back), until)
        self._began[key] = experiment, None
        self._held.update(dict.fromkeys(experiment.accounts, experiment.request.gpus))
        if row.state is State.RUNNING:
            self.began(key, row)

    def began(self, key: Key, row: MemberRow) -> None:
        """An attempt at it runs, as `row` says."""
        experiment, _ = self._began[key]
        assert row.started_ms is not None
        self._began[key] = experiment, row.started_ms
        if (longest := self._longest(experiment, row.failures)) is not None:
            until = trio.current_time() + longest - max(0, now_ms() - row.started_ms) / 1000
            self._running[key] = self._running[key]._replace(ends_by=until)

    def ended(self, key: Key) -> None:
        """It has given back what it held."""
        del self._running[key]
        experiment, _ = self._began.pop(key)
        self._held.subtract(dict.fromkeys(experiment.accounts, experiment.request.gpus))

    def decide(self, waiting: list[Waiting]) -> Decision:
        """Who starts now; it counts as started."""
        machine = self._machine(waiting)
        decision = queue.decide(waiting, machine)
        self._reserved = decision.reserved_user
        self._served |= dict.fromkeys(decision.dispatched_users, machine.now)
        return decision

    def would_start(self, waiting: list[Waiting]) -> Decision:
        """The same, but nothing counts as started."""
        return queue.decide(waiting, self._machine(waiting))

    def order(self, waiting: list[Waiting]) -> Iterator[Waiting]:
        """All of them as their turns would come."""
        return fair_order(waiting, self._machine(waiting))

    def forecast(self, experiments: Iterable[Experiment]) -> Callable[[], dict[int, float | None]]:
        """Gather the facts now; what is returned makes a forecast of them, in whichever thread.

        Number → seconds from now to the next start of each that waits, None where nobody knows; in their order.
        """
        able = [experiment for experiment in experiments if experiment.remaining]
        waiting = [experiment.waiting() for experiment in able]
        remaining = {experiment.number: experiment.remaining for experiment in able}
        runs = list(self._runs())
        held = [
            RunningBatch(experiment.waiting()._replace(request=run.request), run.ends_by)
            for run, (experiment, _) in zip(runs, self._began.values(), strict=True)
        ]
        machine = self._machine(waiting)._replace(
            running=runs, gpus_held=dict(self._held), last_dispatch=dict(self._served)
        )
        return partial(forecast, waiting, remaining, held, machine)

    def _machine(self, waiting: list[Waiting]) -> Machine:
        users = {entry.user for entry in waiting}
        return Machine(
            free=self._inventory.free,
            now=trio.current_time(),
            running=self._runs(),
            usage=self._use(users, now_ms())
            if len(users) > 1
            else {},  # one user is first in any case
            gpu_quotas=self._caps,
            gpus_held=self._held,
            reserved_user=self._reserved,
            last_dispatch=self._served,
            drained=self.drained,
        )

    def _runs(self) -> Collection[Running]:
        """What runs, and what of it comes back: a GPU that is out of use does not."""
        inventory = self._inventory
        if not inventory.unavailable_gpus:
            return self._running.values()
        there, grants = set(inventory.gpus) - inventory.unavailable_gpus, dict(inventory.holders())
        return [
            run._replace(request=run.request._replace(gpus=len(there & set(grants[key].gpus))))
            for key, run in self._running.items()
        ]

    def _use(self, users: set[int], now: int) -> dict[int, float]:
        use = {user: self._share.at(user, now) for user in users}
        for experiment, began in self._began.values():
            user = experiment.row.uid
            if user in use:
                amount = billed_gpus(experiment.request)
                spent = 0.0 if began is None else self._share.spent(amount, (now - began) / 1000)
                use[user] += max(QUANTUM * amount, spent)
        return use
