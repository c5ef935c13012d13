"""Sub-experiments start here: they get their resources, run, and give back what they held.

A member's way: `start` (or `resume`, after a restart) → its job begins → it ends, and nothing of it is left.
"""

from functools import partial

import trio

from rised.execution.lifecycle import Lifecycle, SlotCallbacks
from rised.execution.services import Services
from rised.experiments.experiment import Experiment
from rised.policy.resources import Grant
from rised.scheduling.accounting import UsageAccounting
from rised.scheduling.prelaunch import PrelaunchPool
from rised.scheduling.unfinished import Key, Unfinished
from rised.storage.rows import MemberRow
from riseml_proto import ids
from riseml_proto.states import State


class Dispatcher:
    """Runs the members of all experiments."""

    def __init__(
        self,
        services: Services,
        unfinished: Unfinished,
        accounting: UsageAccounting,
        prelaunches: PrelaunchPool,
    ) -> None:
        self._services = services
        self._unfinished = unfinished
        self._accounting = accounting
        self._prelaunches = prelaunches
        self._starting: set[Key] = set()
        self._no_start_pending = trio.Event()

    def start(self, experiment: Experiment) -> None:
        """Start the next member of an experiment. The caller has checked that what it needs is free."""
        member = experiment.pop()
        row = self._services.database.members.get(experiment.number, member)
        row = row or MemberRow(experiment.number, member, State.CREATED)
        grant = self._accounting.inventory.allocate((experiment.number, member), experiment.request)
        self._run(experiment, row, grant)

    def resume(self, experiment: Experiment, row: MemberRow, grant: Grant) -> None:
        """Go on with a member that an earlier daemon started, and that holds `grant`."""
        self._accounting.inventory.hold((experiment.number, row.member), grant)
        self._run(experiment, row, grant)

    def _run(self, experiment: Experiment, row: MemberRow, grant: Grant) -> None:
        key = experiment.number, row.member
        experiment.limiter.acquire_on_behalf_of_nowait(key)
        self._starting.add(key)
        self._accounting.allocate(key, self._unfinished.states[key[0]], row, grant)
        slot = SlotCallbacks(
            on_begin=partial(self._begun, key),
            release=partial(self._release, key),
            no_start_pending=lambda: self._no_start_pending.wait(),
        )
        take_held = self._prelaunches.take(key)
        lifecycle = Lifecycle(self._services, experiment, row, grant, slot, take_held)
        experiment.running[row.member] = lifecycle
        self._unfinished.nursery.start_soon(lifecycle.run, name=ids.experiment_id(*key))

    def _begun(self, key: Key, row: MemberRow) -> None:
        """Its job has begun, as `row` says."""
        self._starting.discard(key)
        self._accounting.begin(key, row)
        self._unfinished.wake()

    def _release(self, key: Key) -> None:
        """Nothing of the member is left: what it held is free."""
        self._starting.discard(key)
        experiment = self._unfinished.experiments[key[0]]
        del experiment.running[key[1]]
        self._accounting.release(key)
        if not experiment.slots:
            self._unfinished.states[key[0]].eligible_since = trio.current_time()
        experiment.limiter.release_on_behalf_of(key)
        self._unfinished.forget_if_done(experiment)
        self._unfinished.wake()
        if self._no_start_pending.is_set():  # what comes next goes before what tidies up
            self._no_start_pending = trio.Event()

    def check_starting(self) -> bool:
        """Return whether a job is about to start. If none is, let what waits for that go on."""
        if not self._starting:
            self._no_start_pending.set()
        return bool(self._starting)
