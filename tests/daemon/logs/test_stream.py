"""The stream's law: everything once and in order, also for whoever is cut off and comes back."""

import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rised.clock import to_datetime
from rised.logs import merge, stamps
from rised.logs.source import Attempt, Event
from rised.logs.stamps import Stamp
from rised.logs.stream import LogStream
from rised.subscriptions import Subscriptions
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import (
    ElidedEntry,
    EndEntry,
    Entry,
    HeadEntry,
    LineEntry,
    LogRequest,
    PartialEntry,
    StateEntry,
)
from riseml_proto.states import State

SET = CanonicalId(144)


class World:
    """A journal in memory over real logs, and the set of jobs that writes both."""

    def __init__(self, path: Path, members: int) -> None:
        self.path = path
        self.members = members
        self.subscriptions = Subscriptions()
        self.told: list[Event] = []
        self.tries: dict[tuple[int, int], Attempt] = {}
        self.state: dict[int, State] = dict.fromkeys(range(1, members + 1), State.CREATED)
        self.numbers: Counter[int] = Counter()
        self.now = 1000
        self.tell(0, State.PENDING)

    # What the daemon would do.

    def tell(self, member: int, state: State, attempt: Attempt | None = None) -> None:
        if attempt is not None:
            self.tries[attempt.member, attempt.attempt] = attempt
        self.now += 1
        name = f"144.{member}" if member else "144"
        seq, moment = len(self.told) + 1, to_datetime(self.now)
        entry = StateEntry(id=name, time=moment, state=state, seq=seq)
        self.told.append(Event(entry, self.now, attempt))
        self.state[member] = state
        self.subscriptions.notify(144)

    def current(self, member: int) -> Attempt | None:
        found = self.tries.get((member, self.numbers[member]))
        return found if found is not None and found.ended is None else None

    def start(self, member: int) -> None:
        self.numbers[member] += 1
        number = self.numbers[member]
        log = str(self.path / f"{member}-{number}")
        Path(log).touch()
        attempt = Attempt(
            144, member, "train", number, log, len(self.told) + 1, self.now + 1, None, None
        )
        self.tell(member, State.RUNNING, attempt)

    def write(self, member: int, data: bytes) -> None:
        attempt = self.current(member)
        assert attempt is not None
        self.now += 1
        with open(attempt.log, "ab") as file:
            file.write(data)
        last = stamps.last(attempt.log) or Stamp(0, 0)
        size = os.stat(attempt.log).st_size
        stamps.append(attempt.log, Stamp(size, max(self.now, last.time_ms)))
        self.subscriptions.notify(144)

    def end(self, member: int, state: State = State.FINISHED) -> None:
        attempt = self.current(member)
        assert attempt is not None
        ended = attempt._replace(ended=len(self.told) + 1, ended_ms=self.now + 1)
        self.tell(member, state, ended)

    def end_all(self) -> None:
        for member in range(1, self.members + 1):
            if self.current(member):
                self.end(member)
            elif not self.state[member].ended:
                self.tell(member, State.KILLED)
        self.tell(0, State.FINISHED)

    # The journal.

    def head(self, target: CanonicalId) -> HeadEntry:
        return HeadEntry(id=str(target), count=self.members)

    def opening(self, target: CanonicalId) -> list[StateEntry | ElidedEntry]:
        return [
            StateEntry(id=f"{target}.{m}", time=to_datetime(0), state=State.CREATED, seq=0)
            for m in range(1, self.members + 1)
        ]

    def known(self, target: CanonicalId, limit: int) -> list[StateEntry | ElidedEntry]:
        last = {event.entry.id: event.entry for event in self.told}
        return [*sorted(last.values(), key=lambda entry: entry.seq)[-limit:]]

    def events(self, target: CanonicalId, after: int, limit: int) -> list[Event]:
        return self.told[after : after + limit]

    def attempts(self, target: CanonicalId, after: int, limit: int) -> list[Attempt]:
        found = sorted(self.tries.values(), key=lambda a: a.began)
        return [a for a in found if a.began > after][:limit]

    def standing(self, target: CanonicalId) -> EndEntry:
        return EndEntry(state=self.state[0], counts={})


class CutError(Exception):
    """A follower's connection broke."""


class Follower:
    """Keeps what came, and what it has to say when it comes back."""

    def __init__(self, world: World, request: LogRequest, page: int = 1000) -> None:
        self.world = world
        self.request = request
        self.page = page
        self.got: list[Entry] = []
        self.after = 0
        self.known = 0
        self.offsets: dict[str, int] = {}
        self._more = trio.Event()

    async def follow(self, entries: float = math.inf) -> None:
        """Read until the end, or raise `CutError` when `entries` have come."""

        async def send(batch: list[Entry]) -> None:
            nonlocal entries
            await trio.lowlevel.checkpoint()
            for entry in batch:
                if entries <= 0:
                    raise CutError
                entries -= 1
                self.take(entry)
            self._more.set()

        fields = {name: getattr(self.request, name) for name in self.request.__struct_fields__}
        fields |= {"after": self.after, "offsets": dict(self.offsets)}
        with self.world.subscriptions.listen(144) as subscription:
            stream = LogStream(LogRequest(**fields), SET, self.world, page=self.page)
            await stream.run(subscription, send)

    def take(self, entry: Entry) -> None:
        if isinstance(entry, HeadEntry):
            # A stream cut within what has no seq begins anew.
            if not self.after and not self.offsets:
                self.got = []
                self.known = len(self.world.told)
        elif isinstance(entry, StateEntry):
            self.after = max(self.after, entry.seq)
        elif isinstance(entry, LineEntry):
            self.offsets[f"{entry.job}/{entry.attempt}"] = entry.end
        self.got.append(entry)

    async def wait_for(self, count: int) -> None:
        while len(self.got) < count:
            await self._more.wait()
            self._more = trio.Event()

    @property
    def lines(self) -> list[LineEntry]:
        return [entry for entry in self.got if isinstance(entry, LineEntry)]

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    @property
    def states(self) -> list[tuple[str, State]]:
        return [(e.id, e.state) for e in self.got if isinstance(e, StateEntry)]


def read(world: World, **fields: object) -> Follower:
    follower = Follower(world, LogRequest(**fields))  # type: ignore[arg-type]  # a test's own words
    trio.run(follower.follow)
    return follower


@asynccontextmanager
async def following(world: World, **fields: object) -> AsyncIterator[Follower]:
    follower = Follower(world, LogRequest(follow=True, **fields))  # type: ignore[arg-type]
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.follow)
            yield follower


def check_law(world: World, follower: Follower, *, opening: bool) -> None:
    """Everything once, states in order, output between its RUNNING and its end."""
    whole: Counter[tuple[str, int, str]] = Counter()
    followed_from = 0 if opening else follower.known
    for attempt in world.tries.values():
        text = Path(attempt.log).read_bytes().decode()
        parts = text.split("\n")
        lines = parts[:-1] + ([parts[-1]] if parts[-1] else [])
        whole.update((attempt.job_id, attempt.attempt, line) for line in lines)
    got = [entry for entry in follower.got if not isinstance(entry, PartialEntry)]
    assert Counter((e.job, e.attempt, e.text) for e in got if isinstance(e, LineEntry)) == whole
    seqs = [e.seq for e in got if isinstance(e, StateEntry) and e.seq]
    assert seqs == sorted(set(seqs))
    if opening:
        assert seqs == [event.entry.seq for event in world.told]
    places = {e.seq: i for i, e in enumerate(got) if isinstance(e, StateEntry)}
    for attempt in world.tries.values():
        at = [
            i
            for i, e in enumerate(got)
            if isinstance(e, LineEntry) and (e.job, e.attempt) == (attempt.job_id, attempt.attempt)
        ]
        ends = [got[i].end for i in at]  # type: ignore[union-attr]  # they are lines
        assert ends == sorted(set(ends))
        assert attempt.ended is not None
        if at and attempt.began > followed_from:
            assert places[attempt.began] < at[0]
        if at and attempt.ended > followed_from:
            assert at[-1] < places[attempt.ended]
    assert isinstance(got[-1], EndEntry)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["start", "write", "write", "end", "retry", "back", "turn", "turn"]),
        st.integers(1, 3),
        st.sampled_from(["a\n", "part", "two\nlines\n", "x\n" * 700]),
    ),
    max_size=25,
)


async def act(world: World, actions: Sequence[tuple[str, int, str]]) -> None:
    count = 0
    for action, member, text in actions:
        running = world.current(member)
        if action == "start" and not running and not world.state[member].ended:
            world.start(member)
        elif action == "write" and running:
            count += 1
            world.write(member, text.replace("\n", f" {count}\n").encode())
        elif action == "end" and running:
            world.end(member)
        elif action == "retry" and running:
            world.end(member, State.PENDING)
        elif action == "back":
            world.now -= 50
        else:
            for _ in range(4):
                await trio.lowlevel.checkpoint()
    world.end_all()


@given(
    ACTIONS,
    ACTIONS,
    st.lists(st.integers(0, 40), max_size=6),
    st.booleans(),
    st.sampled_from([1, 2, 1000]),
)
@settings(deadline=None, max_examples=150)
def test_followers_cut_off_anywhere_get_everything_once_and_in_order(
    past: list[tuple[str, int, str]],
    live: list[tuple[str, int, str]],
    cuts: list[int],
    opening: bool,
    page: int,
) -> None:
    async def main(world: World, follower: Follower) -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(act, world, live)
                for cut in cuts:
                    try:
                        await follower.follow(cut)
                        return
                    except CutError:
                        pass
                await follower.follow()

    path = Path(tempfile.mkdtemp())
    try:
        world = World(path, 3)
        for action, member, text in past:
            running = world.current(member)
            if action == "start" and not running and not world.state[member].ended:
                world.start(member)
            elif action == "write" and running:
                world.write(member, text.encode())
            elif action == "end" and running:
                world.end(member)
            elif action == "retry" and running:
                world.end(member, State.PENDING)
            elif action == "back":
                world.now -= 50
        follower = Follower(world, LogRequest(follow=True, opening=opening), page)
        trio.run(main, world, follower)
        check_law(world, follower, opening=opening)
    finally:
        shutil.rmtree(path)


@given(ACTIONS, st.lists(st.integers(1, 4), max_size=6), st.sampled_from([1, 2, 1000]))
@example([("start", 1, "a\n"), ("write", 1, "x\n" * 700)], [1], 1)
@settings(deadline=None, max_examples=100)
def test_the_cursor_at_a_cut_is_all_that_is_needed_to_go_on(
    live: list[tuple[str, int, str]], cuts: list[int], page: int
) -> None:
    async def follow(follower: Follower, batches: float) -> None:
        """Follow until the end, or take over the cursor after so many batches."""
        request = LogRequest(
            follow=True, opening=True, after=follower.after, offsets=dict(follower.offsets)
        )
        stream = LogStream(request, SET, follower.world, page=page)

        async def send(batch: list[Entry]) -> None:
            nonlocal batches
            await trio.lowlevel.checkpoint()
            for entry in batch:
                follower.take(entry)
            batches -= 1
            if not batches:
                raise CutError

        try:
            with follower.world.subscriptions.listen(144) as subscription:
                await stream.run(subscription, send)
        except CutError:
            follower.after, follower.offsets = stream.cursor.seq, dict(stream.cursor.offsets)
            open_now = {a.key for a in follower.world.tries.values() if a.began <= follower.after}
            assert follower.offsets.keys() <= open_now
        else:
            assert stream.cursor.offsets == {}

    async def main(world: World, follower: Follower) -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(act, world, live)
                for batches in (*cuts, math.inf):
                    if not follower.got or not isinstance(follower.got[-1], EndEntry):
                        await follow(follower, batches)

    path = Path(tempfile.mkdtemp())
    try:
        world = World(path, 3)
        follower = Follower(world, LogRequest())
        trio.run(main, world, follower)
        check_law(world, follower, opening=True)
    finally:
        shutil.rmtree(path)


def two_jobs(path: Path) -> World:
    """Two jobs that took turns; the second one still runs and is in the middle of a line."""
    world = World(path, 3)
    world.start(1)
    world.start(2)
    world.write(1, b"one 1\n")
    world.write(2, b"two 1\n")
    world.write(1, b"one 2\none 3\n")
    world.write(2, b"two 2\npart")
    world.end(1)
    return world


def test_a_read_tells_last_states_then_output_by_time_then_the_end(tmp_path: Path) -> None:
    got = read(two_jobs(tmp_path))
    assert isinstance(got.got[0], HeadEntry)
    assert got.states == [
        ("144", State.PENDING),
        ("144.2", State.RUNNING),
        ("144.1", State.FINISHED),
    ]
    assert got.texts == ["one 1", "two 1", "one 2", "one 3", "two 2"]
    assert isinstance(got.got[-1], EndEntry)
    kinds = [type(entry) for entry in got.got]
    assert kinds == [HeadEntry] + 3 * [StateEntry] + 5 * [LineEntry] + [EndEntry]


@pytest.mark.parametrize("tail", [0, 1, 2, 4, 5, 100])
def test_tail_tells_the_last_lines_of_all_jobs(tmp_path: Path, tail: int) -> None:
    whole = ["one 1", "two 1", "one 2", "one 3", "two 2"]
    assert read(two_jobs(tmp_path), tail=tail).texts == whole[len(whole) - min(tail, 5) :]


def test_since_tells_what_appeared_then_or_later(tmp_path: Path) -> None:
    world = two_jobs(tmp_path)
    times = [line.time for line in read(world).lines]
    assert read(world, since=times[2]).texts == ["one 2", "one 3", "two 2"]
    assert read(world, since=datetime(2100, 1, 1, tzinfo=UTC)).texts == []


def test_a_last_line_without_an_end_is_told_when_its_job_has_ended(tmp_path: Path) -> None:
    world = two_jobs(tmp_path)
    world.end(2)
    assert read(world).texts[-1] == "part"


def test_tail_and_follow_tell_what_comes_then(tmp_path: Path) -> None:
    world = two_jobs(tmp_path)

    async def main() -> None:
        async with following(world, tail=1) as follower:
            await follower.wait_for(5)
            world.write(2, b"ially\nnext\n")
            world.end_all()
        assert follower.texts == ["two 2", "partially", "next"]

    trio.run(main)


def test_the_line_that_is_being_written_is_told_as_it_grows(tmp_path: Path) -> None:
    world = World(tmp_path, 1)
    world.start(1)

    async def main() -> None:
        async with following(world, opening=True) as follower:
            await follower.wait_for(4)
            for i in range(30):
                world.write(1, f"\r{i}%".encode())
                await trio.sleep(0.01)
            count = sum(isinstance(entry, PartialEntry) for entry in follower.got)
            world.write(1, b"\n")
            world.end_all()
        partials = [entry.text for entry in follower.got if isinstance(entry, PartialEntry)]
        assert 1 <= count <= 5
        assert partials[0] == "0%"
        assert follower.texts == ["".join(f"\r{i}%" for i in range(30))]

    trio.run(main)


def test_a_set_of_many_ended_jobs_is_read_with_few_files_open(tmp_path: Path) -> None:
    world = World(tmp_path, 1200)
    for member in range(1, world.members + 1):
        world.start(member)
        world.write(member, f"line of {member}\n".encode())
        world.end(member)
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    lines: list[str] = []

    async def send(batch: list[Entry]) -> None:
        nonlocal most
        await trio.lowlevel.checkpoint()
        most = max(most, len(os.listdir("/proc/self/fd")))
        assert len(batch) <= merge.BATCH_ENTRIES
        lines.extend(entry.text for entry in batch if isinstance(entry, LineEntry))

    async def main() -> None:
        with world.subscriptions.listen(144) as subscription:
            await LogStream(LogRequest(), SET, world).run(subscription, send)

    trio.run(main)
    assert lines == [f"line of {member}" for member in range(1, world.members + 1)]
    assert most < before + 20


def test_a_reader_that_stops_is_sent_one_batch_and_no_more(tmp_path: Path) -> None:
    world = World(tmp_path, 1)
    world.start(1)
    world.write(1, b"x\n" * 100_000)
    batches = 0

    async def send(batch: list[Entry]) -> None:
        nonlocal batches
        batches += 1
        await trio.sleep_forever()

    async def main() -> None:
        with world.subscriptions.listen(144) as subscription, trio.move_on_after(0.2):
            await LogStream(LogRequest(follow=True), SET, world).run(subscription, send)

    trio.run(main)
    assert batches == 1


def test_rings_that_come_while_nobody_waits_become_one() -> None:
    async def main() -> None:
        subscriptions = Subscriptions()
        subscriptions.notify(1)
        with subscriptions.listen(1) as subscription:
            subscriptions.notify(1)
            subscriptions.notify(1)
            subscriptions.notify(2)
            await subscription.wait()
            with trio.move_on_after(0) as scope:
                await subscription.wait()
            assert scope.cancelled_caught

    trio.run(main)


def test_output_is_told_once_though_the_clock_went_back(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    world.start(1)
    world.write(1, b"one\n")
    world.now -= 50
    world.start(2)
    world.write(2, b"two\n")
    follower = Follower(world, LogRequest(follow=True), page=1)
    follower.after = follower.known = len(world.told)
    world.end(2)
    world.end_all()
    trio.run(follower.follow)
    assert sorted(follower.texts) == ["one", "two"]
    check_law(world, follower, opening=False)
