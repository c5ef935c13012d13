"""The unfinished experiments, and what the scheduler remembers of each from one decision to the next.

Nothing here is on disk: a restarted daemon finds it out anew.
"""

from dataclasses import dataclass

import trio

from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.log import log
from rised.policy.outcome import KillMode
from rised.policy.queue import Decision
from rised.policy.workload import Waiting
from rised.storage.rows import ExperimentRow
from riseml_proto.errors import RisemlError
from riseml_proto.waiting import AwaitsImage, WaitReason

Key = tuple[int, int]
"""The numbers of an experiment and of one of its members."""


@dataclass(eq=False, slots=True)
class QueueState:
    """How one experiment stands in the queue."""

    experiment: Experiment
    accounts: tuple[str, ...]
    """The GPU quotas that it counts against."""
    max_runtime: float | None
    """Seconds within which a member that starts has surely ended; None: no limit is known."""
    eligible_since: float
    """Since when nothing of its own has kept its next member from starting; trio's time."""
    pending_member: int | None = None
    """The member that was last written down as PENDING."""

    def waiting(self) -> Waiting:
        """The same as the policy wants it."""
        experiment = self.experiment
        row = experiment.row
        return Waiting(
            row.id,
            experiment.request,
            experiment.slots,
            row.uid,
            self.accounts,
            row.priority,
            self.max_runtime,
            bool(row.paused),
            self.eligible_since,
        )


class Unfinished:
    """All unfinished experiments, by number."""

    nursery: trio.Nursery
    """What runs for them; open while the scheduler runs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.changed = trio.Event()
        """Set when something has changed since the scheduler began its last decision."""
        self.experiments: dict[int, Experiment] = {}
        self.states: dict[int, QueueState] = {}
        self._wait_reasons: dict[int, WaitReason] = {}
        """What the last decision said."""

    def add(self, state: QueueState) -> None:
        """Take in an experiment that is on disk."""
        number = state.experiment.number
        self.experiments[number] = state.experiment
        self.states[number] = state
        self.wake()

    def forget_if_done(self, experiment: Experiment) -> None:
        """Drop an experiment if it has ended. Once it is dropped, another call does nothing."""
        number = experiment.number
        if not experiment.done.is_set() or self.experiments.pop(number, None) is None:
            return
        del self.states[number]
        self._wait_reasons.pop(number, None)
        if experiment.building:
            experiment.building.kill(KillMode.FORCE)
        row = experiment.row
        self.nursery.start_soon(self.discard_tree, row.user, row.project, row.revision)
        self.wake()

    def waiting(self) -> list[Waiting]:
        """Those with members left to start, in the order of their numbers."""
        return [state.waiting() for state in self.states.values() if state.experiment.remaining]

    def wait_reason(self, number: int) -> WaitReason | None:
        """What an unfinished experiment as a whole waits for."""
        experiment = self.experiments[number]
        if experiment.building:
            return AwaitsImage()
        if not experiment.is_set and experiment.running:
            return experiment.running[0].wait_reason
        return self._wait_reasons.get(number)

    def note_decision(self, decision: Decision) -> None:
        """Keep what the experiments wait for from now on."""
        for number in decision.start:
            self._wait_reasons.pop(number, None)
        self._wait_reasons.update(decision.reasons)

    async def change(self, experiment: Experiment, row: ExperimentRow) -> None:
        """Let an experiment go on with priority, pause and concurrency of `row`. Raises `StorageFull`."""
        is_resumed = experiment.row.paused and not row.paused
        self._services.transitions.change(experiment, row)
        if is_resumed:
            self.states[row.id].eligible_since = trio.current_time()
        self._wait_reasons.pop(row.id, None)
        self.wake()
        await self._services.database.sync()

    def wake(self) -> None:
        """Let the scheduler decide again: something has changed."""
        self.changed.set()

    async def discard_tree(self, user: str, project: str, revision: str) -> None:
        """Remove the pristine tree of a revision unless an unfinished experiment uses it."""

        def is_used() -> bool:
            rows = (experiment.row for experiment in self.experiments.values())
            return (user, project, revision) in ((r.user, r.project, r.revision) for r in rows)

        try:
            await self._services.revisions.discard(user, project, revision, is_used)
        except (RisemlError, OSError) as error:
            log.warning("cannot remove a tree", revision=revision, error=str(error))
