"""Every change of state goes through here: checked against the table, committed, then told.

A set's own state and end are written in the same transaction as the member's that causes them, so that no crash can
leave one without the other.
"""

from collections.abc import Iterable

import trio

from rised.bells import Bells
from rised.clock import now_ms
from rised.experiment import Experiment
from rised.log import log
from rised.store.records import Change, MemberRow
from rised.store.store import Store
from riseml_proto.errors import StorageFull
from riseml_proto.states import Reason, State, advance, set_outcome, set_state

# What the daemon must write when the disk is full it tries again; the kernel does not tell when there is room.
_RETRY_SECONDS = 1.0

_OUTCOMES = {
    State.FINISHED: Reason.COMPLETED,
    State.FAILED: Reason.ERROR,
    State.KILLED: Reason.KILLED,
}


class Ledger:
    """Writes changes of state."""

    def __init__(self, store: Store, bells: Bells) -> None:
        """`bells` ring for an experiment after each of its changes."""
        self._store = store
        self._bells = bells

    def write(self, experiment: Experiment, *changes: Change) -> None:
        """Bring members to their new states, one after the other; end the experiment if that was all.

        Raises `StorageFull`.
        """
        own, ended = experiment.state, dict(experiment.ended)
        final: dict[int, MemberRow] = {}
        for row, _, _ in changes:
            own = set_state(own, row.state)
            final[row.member] = row
            if row.state.ended:
                ended[row.state] += 1
        outcome = None
        with self._store.transaction():
            if own is not experiment.state:
                self._store.set_state(experiment.number, own)
                if experiment.is_set:
                    self._store.tell_experiment(experiment.number, own, changes[0].time_ms)
            for row in final.values():
                self._store.put_member(row)
                if row.state.ended:
                    self._store.count_ends(experiment.number, row.state, 1)
            for change in changes:
                self._store.tell_member(change)
            if sum(ended.values()) == max(1, experiment.row.members):
                own = outcome = self._end(experiment, changes[-1].row, ended, changes[-1].time_ms)
        experiment.state, experiment.ended = own, ended
        self._tell(experiment, final.values(), outcome)

    def _end(
        self, experiment: Experiment, last: MemberRow, ended: dict[State, int], time_ms: int
    ) -> State:
        """Write the end of an experiment whose last member has come to be as `last`."""
        outcome, reason = last.state, last.reason
        if experiment.is_set:
            outcome = set_outcome(ended, killed=bool(experiment.row.kill))
            reason = _OUTCOMES[outcome]
            self._store.tell_experiment(experiment.number, outcome, time_ms, reason)
        self._store.end_experiment(experiment.number, outcome, time_ms, reason)
        return outcome

    def _tell(
        self, experiment: Experiment, rows: Iterable[MemberRow], outcome: State | None
    ) -> None:
        for row in rows:
            if row.state.ended:
                experiment.active.pop(row.member, None)
                event = experiment.member_done.pop(row.member, None)
                if event is not None:
                    event.set()
            else:
                experiment.active[row.member] = row.state
            self._bells.ring(experiment.number, row.member)
        if outcome:
            experiment.done.set()
            self._bells.ring(experiment.number)

    async def write_surely(self, experiment: Experiment, changes: list[Change]) -> None:
        """The same for what has already happened and must be written; waits for room on the disk.

        `changes` are looked at anew for each try.
        """
        while True:
            try:
                self.write(experiment, *changes)
                return
            except StorageFull as error:
                log.error("cannot write a change of state, trying again", error=str(error))
                await trio.sleep(_RETRY_SECONDS)

    def kill_rest(self, experiment: Experiment, force: int) -> None:
        """Note that the whole experiment is to end, and end all of it that has not started. Raises `StorageFull`."""
        number, time_ms = experiment.number, now_ms()
        waiting = [
            _killed(row, time_ms)
            for member in experiment.active.keys() - experiment.running.keys()
            if (row := self._store.member(number, member))
        ]
        members = max(1, experiment.row.members)
        count = members - sum(experiment.ended.values()) - len(experiment.running)
        ended = {**experiment.ended, State.KILLED: experiment.ended[State.KILLED] + count}
        killed, outcome = experiment.row._replace(kill=max(experiment.row.kill, force)), None
        before, experiment.row = experiment.row, killed
        try:
            with self._store.transaction():
                self._store.mark_killed(number, force)
                self._store.count_ends(number, State.KILLED, count)
                for row in waiting:
                    self._store.put_member(row)
                    self._store.tell_member(Change(row, time_ms))
                if not experiment.running:
                    last = waiting[-1] if waiting else MemberRow(number, 0, State.KILLED)
                    outcome = self._end(experiment, last, ended, time_ms)
        except StorageFull:
            experiment.row = before
            raise
        experiment.ended = ended
        experiment.state = outcome or experiment.state
        experiment.skip_all()
        self._tell(experiment, waiting, outcome)
        self._bells.ring(number)

    def kill_waiting(self, experiment: Experiment, member: int) -> None:
        """End one member that has not started. Raises `StorageFull`."""
        found = self._store.member(experiment.number, member)
        time_ms = now_ms()
        row = _killed(found or MemberRow(experiment.number, member, State.CREATED), time_ms)
        self.write(experiment, Change(row, time_ms))
        experiment.skip(member)

    def kill_running(self, experiment: Experiment, member: int, force: int) -> None:
        """Note that a running member is to end. Raises `StorageFull`."""
        row = self._store.member(experiment.number, member)
        with self._store.transaction():
            row = row or MemberRow(experiment.number, member, State.PENDING)
            self._store.put_member(row._replace(kill=max(row.kill, force)))


def _killed(row: MemberRow, time_ms: int) -> MemberRow:
    return row._replace(
        state=advance(row.state, State.KILLED), reason=Reason.KILLED, kill=1, ended_ms=time_ms
    )
