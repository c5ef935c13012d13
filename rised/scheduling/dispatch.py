"""Sub-experiments start here: they get their resources, run, and give back what they held.

A member's way: `start` (or `restore`, after a restart) → its job begins → it ends, and nothing of it is left.
"""

import json
import math
from collections.abc import Mapping
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

    def restore(self, experiment: Experiment, frontier: int) -> None:
        """Take up what an earlier daemon left; `frontier` is the member after the last that was ever started."""
        table, number = self._services.database.members, experiment.number
        # More may run than its concurrency allows now, since somebody has changed that.
        experiment.limiter.total_tokens = math.inf
        for member in table.unended(number):
            experiment.active[member.member] = member.state
            if member.state not in (State.PENDING, State.BUILDING):
                self._resume(experiment, member)
            elif member.attempt or member.member < frontier:
                experiment.push(member.member)
        experiment.limiter.total_tokens = experiment.concurrency
        for overtaken in table.rowless(number, 1 if experiment.is_set else 0, frontier):
            experiment.push(overtaken)
        for later in table.between(number, frontier, experiment.row.members):
            if later.state.ended:
                experiment.skip(later.member)

    def _resume(self, experiment: Experiment, row: MemberRow) -> None:
        """Go on with a member that holds what it was granted."""
        # What was killed with its experiment may have ended of that while nobody watched.
        row = row._replace(kill=max(row.kill, experiment.row.kill))
        uuids, request = self._services.gpu_uuids, experiment.request
        gpus = tuple(current_index(index, uuid, uuids) for index, uuid in json.loads(row.gpus))
        grant = Grant(request.cpus, request.mem, gpus)
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


def current_index(index: int, uuid: str | None, uuids: Mapping[int, str | None]) -> int:
    """The index that a GPU has now; the driver may count differently since the last boot."""
    for now, known in uuids.items():
        if uuid is not None and known == uuid:
            return now
    return index
