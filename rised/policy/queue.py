"""Who starts next: multi-user fair share with EASY-style backfill. Pure: no clock, no I/O.

The law has three parts.

1. **Order** (`fair_order`): the user who has used the least GPU time goes first; of one user's experiments, the one
   with the highest priority, then the lowest number. A user who has waited for a day goes before that.
2. **Backfill** (`backfill`): the first job that does not fit is the head. Jobs behind it start where they delay neither
   it nor others before them. The head's user stays first until the head has started, whoever comes and however
   little they have used. So nobody starves.
3. **Quotas** (`QuotaHeadroom`): a job that would exceed a quota is passed over and keeps nothing from other accounts.
   It does keep its GPUs from the same account, or small jobs of the account would overtake its large ones for ever.
"""

from collections.abc import Iterable
from typing import NamedTuple

from rised.policy.backfill import BackfillPlan
from rised.policy.fair_order import FairShareOrder
from rised.policy.workload import Machine, Waiting
from riseml_proto.waiting import BehindExperiment, Paused, QuotaReached, ServerDrained, WaitReason


class Decision(NamedTuple):
    """What starts now, and why the rest waits; both in the order of their turns."""

    start: dict[int, int]
    """Experiment → how many of its sub-experiments start."""
    reasons: dict[int, WaitReason]
    """Experiment → what it waits for, if it has slots left or is paused."""
    reserved_user: int | None = None
    """The head's user, for the next decision."""
    dispatched_users: frozenset[int] = frozenset()
    """Users of whom something started in its turn, not by backfill behind one of their own; for the next decision."""


def decide(waiting: Iterable[Waiting], machine: Machine) -> Decision:
    """Apply the law to `waiting`, which must come in the order of experiment numbers."""
    if machine.drained is not None:
        drained: WaitReason = ServerDrained(machine.drained)
        return Decision({}, {e.experiment: drained for e in waiting}, machine.reserved_user)
    start: dict[int, int] = {}
    reasons: dict[int, WaitReason] = {}
    eligible = []
    for entry in waiting:
        if entry.paused:
            reasons[entry.experiment] = Paused(entry.experiment)
        elif entry.slots:
            eligible.append(entry)
    plan, headroom = BackfillPlan(machine), QuotaHeadroom(machine)
    head: Waiting | None = None
    behind_head: WaitReason | None = None  # one object for all, since there may be many thousands
    dispatched: set[int] = set()
    blocked: set[int] = set()
    order = FairShareOrder(eligible, machine)
    for entry in order:
        number = entry.experiment
        if quota := headroom.reached_by(entry):
            reasons[number] = quota
            order.pass_over()
        elif plan.start(entry):
            start[number] = start.get(number, 0) + 1
            headroom.take(entry)
            order.charge()
            if entry.user not in blocked:
                dispatched.add(entry.user)
        else:
            head = head or entry
            behind_head = behind_head or BehindExperiment(number)
            blocked.add(entry.user)
            reasons[number] = plan.lacks(entry.request) or behind_head
    return Decision(start, reasons, head.user if head else None, frozenset(dispatched))


class QuotaHeadroom:
    """How many more GPUs each account may hold."""

    def __init__(self, machine: Machine) -> None:
        self._quotas = machine.gpu_quotas
        self._left = {
            account: quota - machine.gpus_held.get(account, 0)
            for account, quota in machine.gpu_quotas.items()
        }

    def reached_by(self, entry: Waiting) -> QuotaReached | None:
        """The quota that `entry` would exceed, if any. Its GPUs are then kept for it in its accounts."""
        gpus = entry.request.gpus
        if not gpus or not self._quotas:
            return None
        exceeded = [name for name in entry.accounts if gpus > self._left.get(name, gpus)]
        if not exceeded:
            return None
        for name in exceeded:
            if gpus <= self._quotas[name]:  # or it would wait, and others with it, for ever
                self._left[name] -= gpus
        return QuotaReached(exceeded[0], self._quotas[exceeded[0]])

    def take(self, entry: Waiting) -> None:
        """Count the GPUs of a job of `entry` that starts."""
        for name in entry.accounts:
            if name in self._left:
                self._left[name] -= entry.request.gpus
