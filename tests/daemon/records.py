"""The records of one experiment, written by the daemon's own transitions, without a daemon."""

import contextlib
import tempfile
from collections.abc import Iterator

from rised.experiments.experiment import Experiment
from rised.experiments.transitions import Transitions
from rised.policy.fairshare import FairShare
from rised.queries.history import StoredHistory
from rised.queries.views import Views
from rised.storage.database import Database
from rised.storage.layout import Layout
from rised.storage.rows import ExperimentRow, MemberChange, MemberRow
from rised.subscriptions import Subscriptions
from riseml_proto.config import parse_config
from riseml_proto.messages import Member
from riseml_proto.states import TRANSITIONS, State
from riseml_proto.waiting import WaitReason

SET = """\
project: toaster
train:
  parameters:
    n: {{range: {{min: 1, max: {}, step: 1}}}}
  concurrency: 3
  run: echo {{{{n}}}}
"""
ONE = "project: toaster\ntrain: {run: echo}\n"


class Records:
    """A daemon's records, and the one experiment in them."""

    def __init__(self, state_dir: str, config: str) -> None:
        self.database = Database(state_dir)
        self.unfinished: dict[int, Experiment] = {}
        self.wait_reasons: dict[int, WaitReason] = {}
        layout = Layout(state_dir, "/out")
        self.views = Views(
            self.database, self.unfinished, self.wait_reasons.get, layout, lambda _: None
        )
        self.history = StoredHistory(self.database, self.views, layout)
        self.transitions = Transitions(self.database, Subscriptions(), FairShare(86_400.0, {}))
        parsed = parse_config(config, "riseml.yml")
        row = ExperimentRow(
            id=0,
            user="paul",
            uid=1000,
            project="toaster",
            revision="0" * 40,
            config=config,
            config_file="riseml.yml",
            env="{}",
            members=parsed.count,
            state=State.PENDING,
            created_ms=1000,
        )
        self.experiment = self.transitions.submit(row, parsed)
        self.number = self.experiment.number
        first = 1 if parsed.count else 0
        self.unfinished[self.number] = self.experiment
        self.members = range(first, parsed.count + 1)
        self.states = {m: State.PENDING if m == first else State.CREATED for m in self.members}
        self.time = 1000

    def move(self, member: int, *states: State) -> None:
        """Let a member come to those of `states` that it can come to: one waits and starts only when it is its turn."""
        for state in states:
            before = self.states[member]
            waits = self.experiment.not_started(member)
            its_turn = self.experiment.head == member
            early = waits and not its_turn and not state.ended
            if before.ended or early or state not in TRANSITIONS[before]:
                continue
            row = self.database.members.get(self.number, member)
            row = row or MemberRow(self.number, member, State.CREATED)
            if waits and state is State.STARTING:
                self.experiment.pop()
            elif waits and state.ended:
                self.experiment.skip(member)
            elif state is State.PENDING and row.attempt:
                self.experiment.push(member)
            self.time += 1
            attempt = row.attempt + (state is State.STARTING)
            changed = row._replace(state=state, attempt=attempt)
            self.transitions.write(self.experiment, MemberChange(changed, self.time))
            self.states[member] = state
        if self.experiment.done.is_set():
            self.unfinished.clear()

    def shown(self, limit: int | None = None) -> list[Member]:
        row = self.views.row(self.number)
        window = self.views.window(row, limit)
        return [member for page in self.views.pages(row, window) for member in page]


@contextlib.contextmanager
def records(config: str) -> Iterator[Records]:
    """Records with one experiment, number 1, in them."""
    with tempfile.TemporaryDirectory() as directory:
        made = Records(directory, config)
        try:
            yield made
        finally:
            made.database.close()
