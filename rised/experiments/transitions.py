"""Every change of state goes through here: checked against the table, committed, then announced.

A set's own state and end are written in the same transaction as the member's that causes them, so that no crash can
leave one without the other.
"""

from collections.abc import Callable, Iterable

import trio

from rised.clock import now_ms
from rised.experiments.experiment import Experiment
from rised.log import log
from rised.policy.fairshare import FairShare, Used
from rised.policy.outcome import KillMode
from rised.policy.workload import billed_gpus
from rised.storage.database import Database
from rised.storage.rows import BUILD, ExperimentRow, JobRow, MemberChange, MemberRow
from rised.subscriptions import Subscriptions
from riseml_proto.config import Config
from riseml_proto.errors import StorageFull
from riseml_proto.states import Reason, State, advance, set_outcome, set_state

# The daemon tries again what it must write to a full disk: the kernel does not announce that there is room.
_RETRY_SECONDS = 1.0

_OUTCOMES = {
    State.FINISHED: Reason.COMPLETED,
    State.FAILED: Reason.ERROR,
    State.KILLED: Reason.KILLED,
}

_KILLED = MemberRow(0, 0, State.KILLED, kill=KillMode.GRACEFUL, reason=Reason.KILLED)


class Transitions:
    """Alone writes what persists of experiments: their rows, members, events and jobs."""

    def __init__(self, database: Database, subscriptions: Subscriptions, share: FairShare) -> None:
        """`subscriptions` are notified after each change; `share` learns what users have used."""
        self._database = database
        self.subscriptions = subscriptions
        self._share = share

    def submit(self, row: ExperimentRow, config: Config) -> Experiment:
        """Add an experiment in state PENDING or BUILDING; `row` has all but its number. Raises `StorageFull`.

        A PENDING one's first member waits with it, which is no event: events are what happens after the submission.
        """
        first = 1 if row.members else 0
        is_set, builds = row.members > 0, row.state is State.BUILDING
        with self._database.transaction():
            row = self._database.experiments.add(row)
            if not (is_set and builds):
                self._database.members.save(MemberRow(row.id, first, row.state))
            if builds:
                self._database.jobs.save(JobRow(row.id, BUILD, 1, row.created_ms))
                build = MemberRow(row.id, 0, State.BUILDING, attempt=1)
                self._database.events.append(MemberChange(build, row.created_ms))
        experiment = Experiment(row, config, frontier=first)
        if not (is_set and builds):
            experiment.active[first] = row.state
        return experiment

    def write(self, experiment: Experiment, *changes: MemberChange) -> None:
        """Bring members to their new states, one after the other; end the experiment if that was all.

        Raises `StorageFull`.
        """
        own, ended = experiment.state, dict(experiment.ended)
        final: dict[int, MemberRow] = {}
        for row, *_ in changes:
            own = set_state(own, row.state)
            final[row.member] = row
            if row.state.ended:
                ended[row.state] += 1
        outcome = None
        with self._database.transaction():
            if own is not experiment.state:
                self._database.experiments.update(experiment.number, state=own)
                if experiment.is_set:
                    set_row = MemberRow(experiment.number, 0, own)
                    self._database.events.append(MemberChange(set_row, changes[0].time_ms))
            for row in final.values():
                self._database.members.save(row)
                if row.state.ended:
                    self._database.experiments.count_ends(experiment.number, row.state, 1)
            for change in changes:
                self._database.events.append(change)
            if sum(ended.values()) == max(1, experiment.row.members):
                own = outcome = self._end(experiment, changes[-1].row, ended, changes[-1].time_ms)
            used = self._charge(experiment, changes)
        if used:
            self._share.record(experiment.row.uid, used)
        experiment.state, experiment.ended = own, ended
        self._announce(experiment, final.values(), outcome)

    def _charge(self, experiment: Experiment, changes: Iterable[MemberChange]) -> Used | None:
        """Charge the user if one of `changes` ends an attempt that ran; no two of them do."""
        uid, amount = experiment.row.uid, billed_gpus(experiment.request)
        for change in changes:
            if change.ran_since_ms is not None:
                used = self._share.charged(uid, amount, change.ran_since_ms, change.time_ms)
                self._database.usage.save(uid, used)
                return used
        return None

    def _end(
        self,
        experiment: Experiment,
        last: MemberRow,
        ended: dict[State, int],
        time_ms: int,
        message: str | None = None,
    ) -> State:
        """Write the end of an experiment; `last` is the row of the member that ended last."""
        outcome, reason = last.state, last.reason
        if experiment.is_set:
            outcome = set_outcome(ended, killed=bool(experiment.row.kill))
            reason = _OUTCOMES[outcome]
            code = None
            if last.reason == Reason.BUILD_FAILED:
                reason, code = Reason.BUILD_FAILED, last.exit_code
            row = MemberRow(experiment.number, 0, outcome, experiment.build_attempt)
            row = row._replace(reason=reason, exit_code=code)
            self._database.events.append(MemberChange(row, time_ms, message))
        self._database.experiments.end(experiment.number, outcome, time_ms, reason)
        self._end_build(experiment, time_ms, last.exit_code)
        return outcome

    def _announce(
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
            self.subscriptions.notify(experiment.number, row.member)
        if outcome:
            experiment.done.set()
            self.subscriptions.notify(experiment.number)

    def change(self, experiment: Experiment, row: ExperimentRow) -> None:
        """Take over priority, pause and concurrency from `row`. Raises `StorageFull`."""
        with self._database.transaction():
            self._database.experiments.update(
                row.id, priority=row.priority, paused=row.paused, concurrency=row.concurrency
            )
        experiment.row = row
        experiment.limiter.total_tokens = experiment.concurrency
        self.subscriptions.notify(experiment.number)

    def mark_killed(self, experiment: Experiment, mode: KillMode) -> None:
        """Write the wish to end the whole experiment; what runs for it carries it out. Raises `StorageFull`."""
        with self._database.transaction():
            self._database.experiments.mark_killed(experiment.number, mode)
        experiment.row = experiment.row._replace(kill=max(experiment.row.kill, mode))

    def kill_rest(self, experiment: Experiment, mode: KillMode) -> None:
        """Write the wish to end the whole experiment, and end what has not started. Raises `StorageFull`."""
        before, killed = experiment.row, max(experiment.row.kill, mode)
        experiment.row = before._replace(kill=killed)
        try:
            self._end_rest(experiment, _KILLED)
        except StorageFull:
            experiment.row = before
            raise

    def fail_rest(self, experiment: Experiment, message: str, code: int | None) -> None:
        """End an experiment whose image cannot be made, so that nothing of it has started. Raises `StorageFull`."""
        end = MemberRow(0, 0, State.FAILED, reason=Reason.BUILD_FAILED, exit_code=code)
        self._end_rest(experiment, end, message)

    def _end_rest(self, experiment: Experiment, end: MemberRow, message: str | None = None) -> None:
        """Bring all members that have not started to the state, reason and exit code of `end`."""
        number, time_ms = experiment.number, now_ms()
        waiting = [
            _ended(row, end, time_ms)
            for member in experiment.active.keys() - experiment.running.keys()
            if (row := self._database.members.get(number, member))
        ]
        members = max(1, experiment.row.members)
        count = members - sum(experiment.ended.values()) - len(experiment.running)
        ended = {**experiment.ended, end.state: experiment.ended[end.state] + count}
        outcome = None
        with self._database.transaction():
            if experiment.row.kill:
                self._database.experiments.mark_killed(number, experiment.row.kill)
            self._database.experiments.count_ends(number, end.state, count)
            for row in waiting:
                self._database.members.save(row)
                if not experiment.is_set:  # its event is the end of the build, if one runs
                    row = row._replace(attempt=experiment.build_attempt or row.attempt)
                self._database.events.append(MemberChange(row, time_ms, message))
            if not experiment.running:
                last = waiting[-1] if waiting else end
                outcome = self._end(experiment, last, ended, time_ms, message)
        experiment.ended = ended
        experiment.state = outcome or experiment.state
        experiment.skip_all()
        self._announce(experiment, waiting, outcome)
        self.subscriptions.notify(number)

    def build_again(self, experiment: Experiment, attempt: int) -> None:
        """Begin another attempt at a build, for nothing is left of the last one. Raises `StorageFull`."""
        time_ms = now_ms()
        with self._database.transaction():
            self._database.jobs.save(JobRow(experiment.number, BUILD, attempt, time_ms))
            row = MemberRow(experiment.number, 0, State.BUILDING, attempt)
            self._database.events.append(MemberChange(row, time_ms))
        experiment.build_attempt = attempt
        self.subscriptions.notify(experiment.number)

    def save_job(self, row: JobRow) -> None:
        """Write the row of a build or a TensorBoard. Raises `StorageFull`."""
        with self._database.transaction():
            self._database.jobs.save(row)

    def built(self, experiment: Experiment, image: str) -> None:
        """Write that an experiment has its image and waits for its turn. Raises `StorageFull`."""
        number, time_ms, first = experiment.number, now_ms(), experiment.head
        assert first is not None
        row = MemberRow(number, first, State.PENDING)
        with self._database.transaction():
            self._database.experiments.update(number, image=image, state=State.PENDING)
            built = MemberRow(number, 0, State.PENDING, experiment.build_attempt)
            self._database.events.append(MemberChange(built, time_ms))
            self._database.members.save(row)
            if experiment.is_set:
                self._database.events.append(MemberChange(row, time_ms))
            self._end_build(experiment, time_ms, 0)
        experiment.row = experiment.row._replace(image=image)
        experiment.state = State.PENDING
        experiment.build_attempt = 0
        self._announce(experiment, [row], None)
        self.subscriptions.notify(number)

    def _end_build(self, experiment: Experiment, time_ms: int, code: int | None) -> None:
        if experiment.build_attempt and (job := self._database.jobs.get(experiment.number, BUILD)):
            self._database.jobs.save(job._replace(exit_code=code, ended_ms=time_ms))

    def kill_waiting(self, experiment: Experiment, member: int) -> None:
        """End one member that has not started. Raises `StorageFull`."""
        row = self._database.members.get(experiment.number, member)
        row = row or MemberRow(experiment.number, member, State.CREATED)
        time_ms = now_ms()
        self.write(experiment, MemberChange(_ended(row, _KILLED, time_ms), time_ms))
        experiment.skip(member)

    def kill_running(self, experiment: Experiment, member: int, mode: KillMode) -> None:
        """Write the wish to end a running member. Raises `StorageFull`."""
        row = self._database.members.get(experiment.number, member)
        with self._database.transaction():
            row = row or MemberRow(experiment.number, member, State.PENDING)
            self._database.members.save(row._replace(kill=max(row.kill, mode)))


def _ended(row: MemberRow, end: MemberRow, time_ms: int) -> MemberRow:
    return row._replace(
        state=advance(row.state, end.state),
        reason=end.reason,
        exit_code=end.exit_code,
        kill=end.kill,
        ended_ms=time_ms,
    )


async def until_room(write: Callable[[], None]) -> None:
    """Write what has already happened and must not get lost: wait for room on the disk."""
    while True:
        try:
            return write()
        except StorageFull as error:
            log.error("cannot write a change of state, trying again", error=str(error))
            await trio.sleep(_RETRY_SECONDS)
