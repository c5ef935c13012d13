"""What the daemon's records look like to those who ask: rows as messages, members that have no rows included."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from rised.clock import to_datetime
from rised.experiments import results
from rised.experiments.experiment import Experiment
from rised.experiments.results import Results
from rised.storage.database import Database
from rised.storage.experiments import owner_of
from rised.storage.layout import Layout
from rised.storage.rows import BOARD, TRAIN, ExperimentRow, MemberRow
from riseml_proto import ids
from riseml_proto.config import Config, parse_config
from riseml_proto.errors import NotFound
from riseml_proto.messages import Detail, Member, Summary
from riseml_proto.states import Reason, State
from riseml_proto.waiting import BehindMember, Paused, SlotsTaken, WaitReason, sentence

_PAGE = 1000


class Views:
    """Summaries, details and members."""

    def __init__(
        self,
        database: Database,
        unfinished: Mapping[int, Experiment],
        wait_reason: Callable[[int], WaitReason | None],
        layout: Layout,
        board_problem: Callable[[ExperimentRow], str | None],
    ) -> None:
        """`unfinished` are the scheduler's, by number; `wait_reason` returns what one of them waits for.

        `board_problem` returns why an experiment's TensorBoard cannot be reached, if so.
        """
        self._database = database
        self._unfinished = unfinished
        self._wait_reason = wait_reason
        self._layout = layout
        self._board_problem = board_problem

    def row(self, number: int) -> ExperimentRow:
        """One experiment's row. Raises `NotFound`."""
        row = self._database.experiments.get(number)
        if row is None:
            raise NotFound(f"there is no experiment {number}; riseml status -a lists all")
        return row

    def config(self, row: ExperimentRow) -> Config:
        """The riseml.yml of an experiment, parsed."""
        live = self._unfinished.get(row.id)
        return live.config if live else parse_config(row.config, row.config_file)

    def summary(self, row: ExperimentRow) -> Summary:
        """One experiment without its members."""
        live = self._unfinished.get(row.id)
        return Summary(
            id=str(row.id),
            type="Set" if row.members else "Experiment",
            state=row.state,
            project=row.project,
            user=row.user,
            revision=row.revision,
            created_at=to_datetime(row.created_ms),
            counts=self.counts(row),
            gpus=sum(len(run.gpus) for run in live.running.values()) if live else 0,
        )

    def counts(self, row: ExperimentRow) -> dict[str, int]:
        """State → how many members are in it, without empty ones, in the order of `State`."""
        counts = dict.fromkeys(State, 0)
        counts |= {State.FINISHED: row.finished, State.FAILED: row.failed, State.KILLED: row.killed}
        if row.id in self._unfinished:
            for state in self._unfinished[row.id].active.values():
                counts[state] += 1
            counts[State.CREATED] += max(1, row.members) - sum(counts.values())
        return {str(state): count for state, count in counts.items() if count}

    def attempt(self, number: int, member: int, job: str) -> int:
        """The number of the newest attempt of a member's, or an experiment's own, job; 0 before the first."""
        tables = self._database
        row = tables.members.get(number, member) if job == TRAIN else tables.jobs.get(number, job)
        return row.attempt if row else 0

    def attempt_ended(self, number: int, member: int, job: str, attempt: int) -> bool:
        """Whether nothing writes to that attempt's log any more."""
        if job != TRAIN:
            own = self._database.jobs.get(number, job)
            return own is not None and (own.attempt != attempt or own.ended_ms is not None)
        row = self._database.members.get(number, member)
        if row is None or row.attempt != attempt:
            return row is not None
        return row.state.ended or row.state is State.PENDING

    def rows(self, *, ended: bool = True) -> Iterator[list[ExperimentRow]]:
        """All unfinished experiments, and the `ended` ones if they are wanted, in order, some at a time."""
        after = 0
        while rows := self._database.experiments.page(after, _PAGE, ended=ended):
            yield rows
            after = rows[-1].id

    def _board(self, row: ExperimentRow) -> str | None:
        """URL of an experiment's TensorBoard, while it can be reached."""
        number = row.id
        job = self._database.jobs.get(number, BOARD)
        if job is None or job.ended_ms is not None:
            return None
        return self._layout.board_url(ids.job_id(number, 0, BOARD), owner_of(row))

    def detail(self, row: ExperimentRow) -> Detail:
        """One experiment, its members left out."""
        config = self.config(row)
        summary = self.summary(row)
        live = self._unfinished.get(row.id)
        wait_reason = self._wait_reason(row.id) if live and not row.reason else None
        return Detail(
            **{name: getattr(summary, name) for name in summary.__struct_fields__},
            count=row.members,
            image=config.image,
            framework=config.framework,
            tensorboard=self._board(row),
            tensorboard_problem=self._board_problem(row),
            output_dir=self._layout.output(row),
            ended_at=to_datetime(row.ended_ms) if row.ended_ms else None,
            concurrency=row.concurrency or config.concurrency,
            time_limit=config.time_limit,
            retries=config.retries,
            resources={"cpus": config.cpus, "mem": config.mem, "gpus": config.gpus},
            reason=sentence(wait_reason) if wait_reason else row.reason,
            waits_for=wait_reason,
            experiments=[],
            priority=row.priority,
            paused=bool(row.paused) and live is not None,
        )

    def window(self, row: ExperimentRow, limit: int | None) -> range:
        """The members that a view of `limit` shows."""
        if not row.members:
            return range(1)
        if limit is None or limit >= row.members:
            return range(1, row.members + 1)
        if live := self._unfinished.get(row.id):
            around = min([live.head or row.members, *live.active])
        else:
            around = self._database.members.frontier(row.id, 1)
        first = max(1, min(around - limit // 4, row.members - limit + 1))
        return range(first, first + limit)

    def pages(self, row: ExperimentRow, members: Iterable[int]) -> Iterator[list[Member]]:
        """These members, in this order, some at a time."""
        config, rest = self.config(row), iter(members)
        while page := list(islice(rest, _PAGE)):
            rows = {m.member: m for m in self._database.members.among(row.id, page)}
            yield [self._member(row, config, n, rows.get(n)) for n in page]

    def reported(self, row: ExperimentRow) -> Iterator[list[tuple[int, State, Results]]]:
        """Number, state and results of those that reported some and have ended, or run; in order, some at a time."""
        after = -1
        while page := self._database.members.results(row.id, after, _PAGE):
            found = ((n, state, self._results(row, n, state, text)) for n, state, text in page)
            yield [(n, State(state), results) for n, state, results in found if results]
            after = page[-1][0]

    def _member(
        self, row: ExperimentRow, config: Config, number: int, member: MemberRow | None
    ) -> Member:
        if member is None:
            state, reason = rowless(row)
            member = MemberRow(row.id, number, state, reason=reason)
        wait_reason = None if member.reason else self._member_wait_reason(row, member)
        return Member(
            id=ids.experiment_id(row.id, number),
            state=member.state,
            params=config.parameters.params(number),
            gpus=[index for index, _ in json.loads(member.gpus)],
            exit_code=member.exit_code,
            reason=sentence(wait_reason) if wait_reason else member.reason,
            waits_for=wait_reason,
            started_at=to_datetime(member.started_ms) if member.started_ms else None,
            ended_at=to_datetime(member.ended_ms) if member.ended_ms else None,
            results=self._results(row, number, member.state, member.results),
        )

    def _results(
        self, row: ExperimentRow, member: int, state: State, reported: str | None
    ) -> Results:
        """The results of a member; `reported` are those in its row, where it has ended."""
        if state == State.RUNNING:
            return results.read(self._layout.output(row, member), owner_of(row))
        return msgspec.json.decode(reported, type=Results) if reported else {}

    def _member_wait_reason(self, row: ExperimentRow, member: MemberRow) -> WaitReason | None:
        live = self._unfinished.get(row.id)
        if live is None or member.state not in (State.CREATED, State.PENDING):
            return None
        if (started := live.running.get(member.member)) and started.wait_reason:
            return started.wait_reason
        own = self._wait_reason(row.id)
        if live.head == member.member and own:
            return own
        if row.paused:
            return Paused(row.id)
        if member.state is State.PENDING:
            return None
        if live.building:
            return own
        if not live.limiter.available_tokens:
            return SlotsTaken(live.concurrency, row.id)
        return BehindMember(ids.experiment_id(row.id, live.head or 0))


def rowless(row: ExperimentRow) -> tuple[State, Reason | None]:
    """State and reason of a member to which nothing has happened."""
    if row.kill:
        return State.KILLED, Reason.KILLED
    if row.reason == Reason.BUILD_FAILED:
        return State.FAILED, Reason.BUILD_FAILED
    return State.CREATED, None
