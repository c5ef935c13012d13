"""The daemon's core against a model, whatever people, jobs, disks, clocks and crashes do to it.

`World` is the machine; what must hold is checked after every step, and in the end everything has to come to its end.
"""

import os
import tempfile
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rised.policy.outcome import KillMode
from rised.policy.queue import decide
from rised.storage.rows import ExperimentRow, MemberRow
from riseml_proto import ids
from riseml_proto.config import parse_config
from riseml_proto.states import TRANSITIONS, Reason, State, set_outcome
from tests.daemon.world import Answer, Life, Process, Theatre

GPUS = 4
_FORWARD = list(State)

_crashes = st.sampled_from([0] * 12 + list(range(1, 13)))
"""The crash point, counted from now, at which the daemon dies; 0: at none."""
_modes = st.sampled_from([KillMode.GRACEFUL, KillMode.FORCE])
_kills = st.one_of(st.none(), st.none(), st.tuples(_modes, st.integers(0, 12), st.integers(0, 3)))
"""A kill in the middle of what happens: its mode, after how many turns of the loop, of which member."""


def riseml_yml(members: int, **train: Any) -> str:
    given = "\n".join(f"  {key}: {value}" for key, value in train.items() if value is not None)
    grid = f"  parameters: {{n: {list(range(members))}}}\n" if members else ""
    return f"project: p\ntrain:\n  run: x\n{grid}{given}\n"


class Sweeps(RuleBasedStateMachine):
    """People submit and kill, jobs end, the daemon dies and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="riseml-model-")
        self.theatre = Theatre(self.directory.name)
        self.world = self.theatre.world
        self.acknowledged: dict[int, str] = {}
        """Experiments of which the client was told, and their riseml.yml."""
        self.max_running: dict[int, int] = {}
        """How many of each were ever allowed at once."""
        self.kill_wishes: set[tuple[int, int | None]] = set()
        """Kills that were asked for, whether they were answered or not."""
        self.kills: list[tuple[int, int | None, Answer[bool]]] = []
        self.ended: dict[tuple[int, int], MemberRow] = {}
        """What was once seen to have ended, which must stay so."""
        self.outcomes: dict[int, ExperimentRow] = {}

    @initialize(random=st.random_module())
    def begin(self, random: object) -> None:
        self.theatre.boot(GPUS)

    def teardown(self) -> None:
        try:
            if not self.theatre.failed:
                self.all_comes_to_an_end()
        finally:
            self.theatre.close()
            self.directory.cleanup()

    # What people do.

    def up(self) -> bool:
        return self.world.daemon is not None

    @precondition(up)
    @rule(
        members=st.sampled_from([0, 1, 2, 3, 4, 4]),
        concurrency=st.sampled_from([1, 2, 3, 3]),
        gpus=st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
        cpus=st.sampled_from([0, 0.5, 3]),
        retries=st.integers(0, 2),
        limit=st.sampled_from([None, 60]),
        crash=_crashes,
        then_kill=_kills,
    )
    def submit(
        self,
        members: int,
        concurrency: int,
        gpus: int,
        cpus: float,
        retries: int,
        limit: int | None,
        crash: int,
        then_kill: tuple[KillMode, int, int] | None,
    ) -> None:
        text = riseml_yml(
            members,
            concurrency=concurrency,
            resources=f"{{gpus: {gpus}, cpus: {cpus}}}",
            retries=retries,
            time_limit=limit,
        )
        self.world.crash_in = crash
        if then_kill:
            (number,) = self.theatre.look(
                lambda d: [(d.database.experiments.newest("u", None) or 0) + 1]
            )
            self.ask_to_kill(number, min(members, then_kill[2]) or None, *then_kill[:2], calm=False)
        answer = self.theatre.ask(lambda daemon: daemon.submit(text))
        if answer.came and answer.value is not None:
            self.acknowledged[answer.value] = text
            self.max_running[answer.value] = parse_config(text).concurrency

    @precondition(lambda self: self.up() and self.acknowledged)
    @rule(
        data=st.data(),
        mode=_modes,
        crash=_crashes,
    )
    def kill(self, data: st.DataObject, mode: KillMode, crash: int) -> None:
        unended = sorted(self.acknowledged.keys() - self.outcomes.keys())
        number = data.draw(st.sampled_from(unended or sorted(self.acknowledged)), "experiment")
        count = parse_config(self.acknowledged[number]).count
        member = data.draw(st.sampled_from([None, *range(1, count + 1)]), "member")
        self.world.crash_in = crash
        self.ask_to_kill(number, member, mode, 0)

    def ask_to_kill(
        self, number: int, member: int | None, mode: KillMode, ticks: int, *, calm: bool = True
    ) -> None:
        """Ask for it so many turns of the daemon's loop after what is done next."""
        self.kill_wishes.add((number, member))
        answer = self.theatre.ask(
            lambda d: d.scheduler.killer.kill(number, member, mode), ticks=ticks, calm=calm
        )
        self.kills.append((number, member, answer))

    @precondition(lambda self: self.up() and self.acknowledged)
    @rule(
        data=st.data(),
        paused=st.sampled_from([None, None, 0, 1]),
        priority=st.sampled_from([None, -1, 1]),
        concurrency=st.sampled_from([None, None, 1, 3]),
        crash=_crashes,
    )
    def change(
        self,
        data: st.DataObject,
        paused: int | None,
        priority: int | None,
        concurrency: int | None,
        crash: int,
    ) -> None:
        number = data.draw(st.sampled_from(sorted(self.acknowledged)), "experiment")
        facts = {"paused": paused, "priority": priority, "concurrency": concurrency}
        wanted = {name: value for name, value in facts.items() if value is not None}
        self.max_running[number] = max(self.max_running[number], concurrency or 1)
        self.world.crash_in = crash
        self.theatre.ask(lambda daemon: daemon.change(number, **wanted))

    @precondition(up)
    @rule(reason=st.sampled_from([None, None, "", "new disks"]), crash=_crashes)
    def drain(self, reason: str | None, crash: int) -> None:
        self.world.crash_in = crash
        self.theatre.ask(lambda daemon: daemon.scheduler.drain(reason))

    # What jobs do.

    def running(self) -> list[Process]:
        return [p for p in self.world.processes.values() if p.alive and p.begun]

    @precondition(lambda self: bool(self.running()))
    @rule(
        data=st.data(),
        code=st.sampled_from([0, 0, 0, 1, 137]),
        leftovers=st.sampled_from([False, False, True]),
        crash=_crashes,
        then_kill=_kills,
    )
    def job_ends(
        self,
        data: st.DataObject,
        code: int,
        leftovers: bool,
        crash: int,
        then_kill: tuple[KillMode, int, int] | None,
    ) -> None:
        process = data.draw(st.sampled_from(self.running()))
        if self.up() and then_kill:
            number = int(process.key[0].partition(".")[0])
            members = (
                parse_config(self.acknowledged[number]).count if number in self.acknowledged else 0
            )
            self.ask_to_kill(number, min(members, then_kill[2]) or None, *then_kill[:2], calm=False)
        self.world.crash_in = crash if self.up() else 0
        self.theatre.do(lambda: process.die(code, leftovers=leftovers))

    @precondition(lambda self: any(p.leftovers for p in self.world.processes.values()))
    @rule(data=st.data())
    def leftovers_end(self, data: st.DataObject) -> None:
        left = [p for p in self.world.processes.values() if p.leftovers]
        process = data.draw(st.sampled_from(left))
        self.theatre.do(process.remove_leftovers)

    @rule(
        stubborn=st.booleans(),
        start_fails=st.sampled_from([False, False, False, False, True]),
        disk_full=st.sampled_from([False, False, False, False, True]),
    )
    def from_now_on(self, stubborn: bool, start_fails: bool, disk_full: bool) -> None:
        self.world.stubborn, self.world.start_fails = stubborn, start_fails
        self.world.disk_full = disk_full

    # What happens to the machine.

    @precondition(up)
    @rule()
    def crash(self) -> None:
        self.theatre.crash()

    @precondition(lambda self: not self.up())
    @rule(gpus=st.sampled_from([GPUS, GPUS, 2]), crash=_crashes)
    def boot(self, gpus: int, crash: int) -> None:
        self.world.crash_in = crash
        self.theatre.boot(gpus)

    @precondition(lambda self: not self.up())
    @rule()
    def reboot(self) -> None:
        self.theatre.do(self.world.reboot)

    @rule(seconds=st.sampled_from([0.5, 2, 11, 100]))
    def time_passes(self, seconds: float) -> None:
        self.theatre.jump(seconds)

    @rule(seconds=st.sampled_from([-86_400, -50, 50, 86_400]))
    def someone_sets_the_clock(self, seconds: float) -> None:
        self.world.wall_offset += seconds

    # What must hold.

    @invariant()
    def all_is_well(self) -> None:
        assert all(n == 1 for n in self.world.begun.values()), "an attempt began twice"
        there = self.world.alive()
        members = Counter(process.key[0] for process in there)
        assert all(n == 1 for n in members.values()), f"a member runs twice: {members}"
        gpus = Counter(gpu for process in there for gpu in process.gpus)
        assert all(n == 1 for n in gpus.values()), f"a GPU has two jobs: {gpus}"
        alive = Counter(int(process.key[0].partition(".")[0]) for process in there)
        for number, most in self.max_running.items():
            assert alive[number] <= most, f"too many of {number} run"
        if self.up():
            self.theatre.look(self.check_records)
            self.theatre.look(self.check_resources)

    def check_records(self, daemon: Life) -> None:
        database = daemon.database
        numbers = range(1, (database.experiments.newest("u", None) or 0) + 1)
        everything = {n: row for n in numbers if (row := database.experiments.get(n))}
        assert self.acknowledged.keys() <= everything.keys(), "an acknowledged experiment is lost"
        for row in everything.values():
            members = database.members.between(row.id, 0, row.members)
            for member in members:
                self.check_member(daemon, row, member)
            self.check_counts(daemon, row, members)
            if row.members:
                states = [e.state for e in database.events.after(row, 0, 10_000, 0)]
                assert states == sorted(set(states), key=_FORWARD.index), "a set went backwards"
        for number, killed, answer in self.kills:
            if answer.came and not answer.error:
                self.check_killed(daemon, everything[number], killed)

    def check_member(self, daemon: Life, row: ExperimentRow, member: MemberRow) -> None:
        name = ids.experiment_id(row.id, member.member)
        events = daemon.database.events.after(row, 0, 10_000, member.member)
        first = 1 if row.members else 0
        state = State.PENDING if member.member == first else State.CREATED
        began = []
        for event in events:
            assert event.state in TRANSITIONS[state], f"{name}: {state} to {event.state}"
            state = event.state
            began += [event.attempt] * (state is State.RUNNING)
        assert began == sorted(set(began)), f"{name}: an attempt began twice"
        if events:
            assert (state, events[-1].attempt) == (member.state, member.attempt)
        config = parse_config(row.config)
        job = ids.job_id(row.id, member.member, "train")
        ends = [self.world.codes.get((job, attempt), (False, 0)) for attempt in began]
        failed = sum(begun and code != 0 for begun, code in ends)
        assert failed <= config.retries + 1, f"{name} was tried too often"
        if not member.state.ended:
            assert (row.id, member.member) not in self.ended
            return
        assert self.ended.setdefault((row.id, member.member), member) == member
        assert member.ended_ms is not None
        begun, code = self.world.codes.get((job, member.attempt), (False, None))
        if process := self.world.processes.get((job, member.attempt)):
            begun, code = process.begun, process.code
        match member.reason:
            case Reason.COMPLETED:
                assert (member.state, begun, code) == (State.FINISHED, True, 0)
                assert member.exit_code == 0
            case Reason.ERROR:
                assert (member.state, begun, member.exit_code) == (State.FAILED, True, code)
                assert code not in (0, None)
            case Reason.LOST:
                assert (member.state, begun, code) == (State.FAILED, True, None)
            case Reason.TIME_LIMIT:
                assert member.state is State.FAILED
                assert config.time_limit is not None
            case Reason.START_FAILED:
                assert (member.state, begun) == (State.FAILED, False)
            case _:
                assert (member.state, member.reason) == (State.KILLED, Reason.KILLED)
                who = member.member or None
                assert {(row.id, who), (row.id, None)} & self.kill_wishes, f"nobody killed {name}"

    def check_counts(self, daemon: Life, row: ExperimentRow, members: list[MemberRow]) -> None:
        counts = Counter(member.state for member in members)
        rowless = max(1, row.members) - len(members)
        assert (row.finished, row.failed) == (counts[State.FINISHED], counts[State.FAILED])
        assert counts[State.KILLED] <= row.killed <= counts[State.KILLED] + rowless * bool(row.kill)
        shown = daemon.views.counts(row)
        assert all(count > 0 for count in shown.values()), shown
        assert sum(shown.values()) == max(1, row.members), shown
        if row.ended_ms is None:
            assert not row.state.ended
            assert row.id in daemon.scheduler.experiments
            assert row.id not in self.outcomes
            return
        assert row.id not in daemon.scheduler.experiments
        assert self.outcomes.setdefault(row.id, row) == row
        all_ended = {
            State.FINISHED: row.finished,
            State.FAILED: row.failed,
            State.KILLED: row.killed,
        }
        assert sum(all_ended.values()) == max(1, row.members)
        if row.members:
            assert row.state is set_outcome(all_ended, killed=bool(row.kill))
        else:
            assert row.state is members[0].state

    def check_killed(self, daemon: Life, row: ExperimentRow, member: int | None) -> None:
        name = ids.experiment_id(row.id, member or 0)
        if member is None:
            assert row.state.ended, f"{name} was said to be killed"
        else:
            stored = daemon.database.members.get(row.id, member)
            state = stored.state if stored else State.KILLED if row.kill else State.CREATED
            assert state.ended, f"{name} was said to be killed"
        for process in self.world.alive():
            assert not f"{process.key[0]}.".startswith(f"{name}."), f"{process.key} lives on"

    def check_resources(self, daemon: Life) -> None:
        scheduler = daemon.scheduler
        running = {(e.number, m) for e in scheduler.experiments.values() for m in e.running}
        grants = dict(scheduler.inventory.grants())
        assert grants.keys() == running
        held = {gpu for grant in grants.values() for gpu in grant.gpus}
        assert scheduler.inventory.free_gpus == set(scheduler.inventory.gpus) - held
        for process in self.world.alive():
            assert held.issuperset(process.gpus), f"{process.key} lives, and its GPU is free"
        for experiment in scheduler.experiments.values():
            assert experiment.limiter.borrowed_tokens == len(experiment.running)
            assert experiment.remaining >= 0
        waiting = scheduler.unfinished.waiting()
        machine = scheduler.accounting.snapshot(waiting)
        assert not decide(waiting, machine).start, "something could start"

    def all_comes_to_an_end(self) -> None:
        """With room on the disk and jobs that end, nothing may be left after a while."""
        world = self.world
        world.disk_full = world.start_fails = world.stubborn = False
        world.crash_in = 0
        if self.up() and len(world.daemon.scheduler.inventory.gpus) < GPUS:  # type: ignore[union-attr]
            self.theatre.crash()
        if not self.up():
            self.theatre.boot(GPUS)
        self.theatre.ask(lambda daemon: daemon.scheduler.drain(None))
        for number in self.theatre.look(lambda daemon: [*daemon.scheduler.experiments]):
            self.theatre.ask(lambda daemon, number=number: daemon.change(number, paused=0))  # type: ignore[misc]
        for _ in range(200):
            self.theatre.jump(20)
            for process in self.running():
                self.theatre.do(lambda process=process: process.die(0))  # type: ignore[misc]
            if not self.theatre.look(lambda daemon: len(daemon.scheduler.experiments)):
                break
        self.all_is_well()
        assert not self.theatre.look(
            lambda daemon: [r.id for r in daemon.database.experiments.unfinished()]
        )
        assert not self.theatre.look(lambda d: [*d.scheduler.inventory.grants()])
        assert not world.processes, "something was left on the machine"
        assert self.acknowledged.keys() <= self.outcomes.keys()


@settings(max_examples=60)
@given(random=st.random_module(), crash=st.integers(1, 16))
def test_a_crash_in_the_middle_of_several_starts_loses_none_of_them(
    random: object, crash: int
) -> None:
    """They start in no order, so that a later one may be on disk and an earlier one not."""
    machine = Sweeps()
    try:
        machine.theatre.boot(GPUS)
        machine.world.crash_in = crash
        machine.theatre.ask(lambda daemon: daemon.submit(riseml_yml(4, concurrency=3)))
    finally:
        machine.teardown()


def test_whatever_happens_the_records_and_the_machine_agree() -> None:
    """More by hand: MODEL_EXAMPLES=2000 pytest tests/daemon/test_model.py."""
    run_state_machine_as_test(
        Sweeps,
        settings=settings(
            max_examples=int(os.environ.get("MODEL_EXAMPLES", "40")),
            stateful_step_count=int(os.environ.get("MODEL_STEPS", "30")),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
