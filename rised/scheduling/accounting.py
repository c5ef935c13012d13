"""Who holds and has used what: the facts that the policy decides on.

What is remembered here between decisions lives as long as the daemon; only what users have used outlives it. Times are
trio's, so that nobody who sets the clock changes whose turn it is. Usage alone is counted by the wall clock, as the
database has it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple

import trio

from rised.clock import now_ms
from rised.experiments.experiment import Experiment
from rised.policy import queue
from rised.policy.fair_order import QUANTUM
from rised.policy.fairshare import FairShare
from rised.policy.forecast import RunningBatch, forecast
from rised.policy.queue import Decision
from rised.policy.quotas import Quotas
from rised.policy.resources import Grant, Inventory, ResourceRequest
from rised.policy.workload import Machine, Running, Waiting, billed_gpus
from rised.scheduling.unfinished import Key, QueueState
from rised.storage.experiments import owner_of
from rised.storage.rows import MemberRow
from riseml_proto.states import State


class _Allocation(NamedTuple):
    """A member that holds resources."""

    state: QueueState
    started_ms: int | None
    """When its attempt began to run; None before that."""


class UsageAccounting:
    """Counts what all members hold and what their users have used."""

    def __init__(
        self, inventory: Inventory, share: FairShare, quotas: Quotas, *, kill_grace: float
    ) -> None:
        """`share` is that of `Transitions`; `kill_grace`: seconds a job may go on after its time limit, by default."""
        self.inventory = inventory
        self._share = share
        self._quotas = quotas
        self._grace = kill_grace
        self._running: dict[Key, Running] = {}
        self._allocations: dict[Key, _Allocation] = {}
        """In the same order as `_running`."""
        self._gpus_held: Counter[str] = Counter()
        self._gpu_quotas: dict[str, int] = {}
        self._reserved_user: int | None = None
        self._last_dispatch: dict[int, float] = {}
        self.drained: str | None = None
        """Why nothing starts; None where it does."""

    def queue_state(self, experiment: Experiment) -> QueueState:
        """How a new or restored experiment stands in the queue."""
        row = experiment.row
        quotas = self._quotas.of(row.user, owner_of(row).all_groups)
        self._gpu_quotas |= {name: q.gpus for name, q in quotas.items() if q.gpus is not None}
        return QueueState(
            experiment,
            accounts=tuple(quotas),
            max_runtime=self._max_runtime(experiment, 0),
            eligible_since=trio.current_time() - _seconds_since(row.created_ms),
        )

    def _max_runtime(self, experiment: Experiment, failures: int) -> float | None:
        """Seconds within which a member that has failed so often has surely ended, retries and all."""
        config = experiment.config
        if config.time_limit is None:
            return None
        return (config.retries + 1 - failures) * (config.time_limit + config.grace(self._grace))

    def allocate(self, key: Key, state: QueueState, row: MemberRow, grant: Grant) -> None:
        """Count `grant` as held by a member that is as `row` says."""
        returned_gpus = len(set(grant.gpus) & set(self.inventory.gpus))
        ends_by = None
        if state.max_runtime is not None:
            ends_by = trio.current_time() + state.max_runtime
        request = ResourceRequest(grant.cpus, grant.mem, returned_gpus)
        self._running[key] = Running(request, ends_by)
        self._allocations[key] = _Allocation(state, None)
        self._gpus_held.update(_gpus_by_account(state))
        if row.state is State.RUNNING:
            self.begin(key, row)

    def begin(self, key: Key, row: MemberRow) -> None:
        """Note that an attempt runs since `row.started_ms`."""
        assert row.started_ms is not None
        allocation = self._allocations[key]._replace(started_ms=row.started_ms)
        self._allocations[key] = allocation
        max_runtime = self._max_runtime(allocation.state.experiment, row.failures)
        if max_runtime is not None:
            ends_by = trio.current_time() + max_runtime - _seconds_since(row.started_ms)
            self._running[key] = self._running[key]._replace(ends_by=ends_by)

    def release(self, key: Key) -> None:
        """Free what a member held."""
        self.inventory.release(key)
        del self._running[key]
        self._gpus_held.subtract(_gpus_by_account(self._allocations.pop(key).state))

    def decide(self, waiting: list[Waiting]) -> Decision:
        """Let the policy decide who starts now. The next decision builds on this one."""
        machine = self.snapshot(waiting)
        decision = queue.decide(waiting, machine)
        self._reserved_user = decision.reserved_user
        self._last_dispatch |= dict.fromkeys(decision.dispatched_users, machine.now)
        return decision

    def forecast(self, states: Iterable[QueueState]) -> Callable[[], dict[int, float | None]]:
        """Gather the facts now; the function returned makes a forecast of them, in whichever thread.

        Number → seconds from now to the next start of each that waits, None where nobody knows; in their order.
        """
        able = [state for state in states if state.experiment.remaining]
        remaining = {state.experiment.number: state.experiment.remaining for state in able}
        waiting = [state.waiting() for state in able]
        running = self._running_now()
        batches = [
            RunningBatch(allocation.state.waiting()._replace(request=run.request), run.ends_by)
            for run, allocation in zip(running, self._allocations.values(), strict=True)
        ]
        machine = self.snapshot(waiting)._replace(
            running=list(running),
            gpus_held=dict(self._gpus_held),
            last_dispatch=dict(self._last_dispatch),
        )
        return partial(forecast, waiting, remaining, batches, machine)

    def snapshot(self, waiting: list[Waiting]) -> Machine:
        """The machine as a decision about `waiting` needs it."""
        users = {entry.user for entry in waiting}
        return Machine(
            free=self.inventory.free,
            now=trio.current_time(),
            running=self._running_now(),
            # A user who is alone is first in any case.
            usage=self._usage(users, now_ms()) if len(users) > 1 else {},
            gpu_quotas=self._gpu_quotas,
            gpus_held=self._gpus_held,
            reserved_user=self._reserved_user,
            last_dispatch=self._last_dispatch,
            drained=self.drained,
        )

    def _running_now(self) -> Collection[Running]:
        """What runs, and what of it comes back: a GPU that is out of use does not."""
        inventory = self.inventory
        if not inventory.unavailable_gpus:
            return self._running.values()
        usable = set(inventory.gpus) - inventory.unavailable_gpus
        grants = dict(inventory.grants())
        return [
            run._replace(request=run.request._replace(gpus=len(usable & set(grants[key].gpus))))
            for key, run in self._running.items()
        ]

    def _usage(self, users: set[int], now: int) -> dict[int, float]:
        usage = {user: self._share.used_by(user, now) for user in users}
        for state, started_ms in self._allocations.values():
            user = state.experiment.row.uid
            if user in usage:
                gpus, used = billed_gpus(state.experiment.request), 0.0
                if started_ms is not None:
                    used = self._share.spent(gpus, (now - started_ms) / 1000)
                usage[user] += max(QUANTUM * gpus, used)
        return usage


def _gpus_by_account(state: QueueState) -> dict[str, int]:
    return dict.fromkeys(state.accounts, state.experiment.request.gpus)


def _seconds_since(time_ms: int) -> float:
    """By the wall clock; never less than 0."""
    return max(0, now_ms() - time_ms) / 1000
