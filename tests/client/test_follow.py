"""Following: every line once, in order, whatever happens to the daemon."""

import contextlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from riseml import follow as follower
from riseml.follow import entries, follow
from riseml.transport.http import Client
from riseml.transport.unix import UnixSocket
from riseml_proto import errors
from riseml_proto.errors import DaemonError, NotFound, Unreachable
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

NOW = datetime(2017, 8, 30, 9, 59, 6, tzinfo=UTC)
HEAD = HeadEntry(id="144", count=8)
END = EndEntry(state=State.FINISHED, counts={"FINISHED": 8})


def line(text: str, end: int, job: str = "144.1.train", attempt: int = 1) -> LineEntry:
    time = NOW + timedelta(seconds=end)
    return LineEntry(job=job, attempt=attempt, time=time, text=text, end=end)


def state(name: State, seq: int) -> StateEntry:
    return StateEntry(id="144.1", time=NOW, state=name, seq=seq)


def wire(*entries: Entry) -> list[bytes]:
    return [msgspec.json.encode(entry) for entry in entries]


class Following:
    """A follower of the fake daemon."""

    def __init__(self, daemon: Any) -> None:
        self.daemon = daemon
        self.out = io.StringIO()

    @contextlib.contextmanager
    def connect(self) -> Iterator[Client]:
        with Client(self.daemon.path) as client:
            yield client

    def follow(self, **request: Any) -> EndEntry:
        return follow(self.connect, LogRequest(**request), out=self.out)

    @property
    def texts(self) -> list[str]:
        return [line.split("] ", 1)[1] for line in self.out.getvalue().splitlines()]

    @property
    def requests(self) -> list[LogRequest]:
        return [msgspec.json.decode(r.body, type=LogRequest) for r in self.daemon.requests]


@pytest.fixture
def following(daemon: Any) -> Following:
    return Following(daemon)


def test_a_stream_is_shown_and_its_end_returned(following: Following) -> None:
    following.daemon.scripts = [
        following.daemon.streams(*wire(HEAD, state(State.RUNNING, 3), line("a", 2), END))
    ]
    assert following.follow(id="144", follow=True) == END
    assert following.out.getvalue() == (
        "144.1           | [2017-08-30T09:59:06Z] --> RUNNING\n"
        "144.1.train     | [2017-08-30T09:59:08Z] a\n"
    )
    assert following.daemon.requests[0][:2] == ("POST", "/v1/logs")


def test_a_cut_stream_is_taken_up_where_it_was(following: Following) -> None:
    streams = following.daemon.streams
    other = line("b", 5, "144.2.train", 2)
    following.daemon.scripts = [
        streams(*wire(HEAD, state(State.RUNNING, 3), line("a", 2), other), cut=True),
        streams(*wire(HEAD, line("c", 4)), cut=True),
        streams(*wire(HEAD, state(State.FINISHED, 9), END)),
    ]
    assert following.follow(id="144", follow=True) == END
    assert following.texts == ["--> RUNNING", "a", "b", "c", "--> FINISHED"]
    _, second, third = following.requests
    assert (second.id, second.follow, second.after) == ("144", True, 3)
    assert second.offsets == {"144.1.train/1": 2, "144.2.train/2": 5}
    assert third.offsets == {"144.1.train/1": 4, "144.2.train/2": 5}


def test_what_a_daemon_sends_again_is_not_shown_again(following: Following) -> None:
    streams = following.daemon.streams
    opening: list[Entry] = [
        StateEntry(id="144.1", time=NOW, state=State.PENDING, seq=0),
        ElidedEntry(id="144", time=NOW, state=State.CREATED, count=7),
    ]
    seen: list[Entry] = [state(State.RUNNING, 3), line("a", 2)]
    following.daemon.scripts = [
        streams(*wire(HEAD, *opening, *seen), cut=True),
        streams(*wire(HEAD, *opening, *seen, line("b", 4), END)),
    ]
    following.follow(id="144")
    assert following.texts == ["--> PENDING", "7 more are CREATED", "--> RUNNING", "a", "b"]


def test_the_daemon_decides_the_order_within_a_stream(following: Following) -> None:
    following.daemon.scripts = [
        following.daemon.streams(*wire(HEAD, state(State.RUNNING, 9), state(State.PENDING, 3), END))
    ]
    following.follow(id="144")
    assert following.texts == ["--> RUNNING", "--> PENDING"]


def test_after_a_cut_the_last_n_lines_are_not_counted_anew(following: Following) -> None:
    streams = following.daemon.streams
    following.daemon.scripts = [
        streams(*wire(HEAD, line("a", 2)), cut=True),
        streams(*wire(HEAD, END)),
    ]
    following.follow(id="144", tail=1)
    first, second = following.requests
    assert (first.tail, first.since) == (1, None)
    assert (second.tail, second.since) == (None, NOW + timedelta(seconds=2))


def test_a_line_cut_in_the_middle_is_fetched_again(following: Following) -> None:
    whole = wire(HEAD, line("a", 2))
    half = b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    for data in (whole[0] + b"\n", whole[1][:20]):
        half += b"%x\r\n%s\r\n" % (len(data), data)
    following.daemon.scripts = [
        following.daemon.says(half),
        following.daemon.streams(*whole, *wire(END)),
    ]
    following.follow(id="144")
    assert following.texts == ["a"]


def test_partial_lines_leave_no_trace_in_a_file(following: Following) -> None:
    partial = PartialEntry(job="144.1.train", attempt=1, time=NOW, text="10%")
    following.daemon.scripts = [following.daemon.streams(*wire(HEAD, partial, partial, END))]
    following.follow(id="144")
    assert following.texts == []


def test_an_error_of_the_daemons_is_raised_at_once(following: Following) -> None:
    problem = b'{"error": "there is no experiment 9", "code": "not-found"}'
    following.daemon.scripts = [following.daemon.answers(problem, status=404)]
    with pytest.raises(NotFound):
        following.follow(id="9")
    assert len(following.requests) == 1


def test_a_daemon_that_was_never_there_is_not_waited_for(following: Following) -> None:
    following.daemon.close()
    with pytest.raises(Unreachable, match="does not run any more"):
        following.follow(id="144")


def test_a_daemon_that_stays_away_is_given_up(
    following: Following, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors, "PATIENCE", 0.2)
    monkeypatch.setattr(follower, "_NOTICE_AFTER", 0.1)
    streams = following.daemon.streams
    following.daemon.scripts = [streams(*wire(HEAD, line("a", 2)), cut=True), streams(cut=True)]
    with pytest.raises(Unreachable):
        following.follow(id="144")
    assert capsys.readouterr().err.count("waiting for it to come back") == 1


def test_a_stream_that_held_counts_as_back_though_nothing_came(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "PATIENCE", 1.5 * follower._FIRST_DELAY)
    monkeypatch.setattr(follower, "_STEADY", 0.0)
    streams = following.daemon.streams
    silent = streams(*wire(HEAD), cut=True)
    following.daemon.scripts = [streams(*wire(HEAD, line("a", 2)), cut=True), *[silent] * 5]
    following.daemon.scripts.append(streams(*wire(HEAD, END)))
    assert following.follow(id="144") == END


def test_an_endpoint_may_ask_for_more_patience_and_say_why(
    following: Following, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors, "PATIENCE", 0.0)
    monkeypatch.setattr(follower, "_NOTICE_AFTER", 0.0)
    streams = following.daemon.streams
    following.daemon.scripts = [
        streams(*wire(HEAD, line("a", 2)), cut=True),
        streams(*wire(HEAD, END)),
    ]

    class Far(UnixSocket):
        def lost(self, connection: object) -> Unreachable:
            return Unreachable("gone", patience=60, notice="the network is away")

    def connect() -> Client:
        return Client(Far(following.daemon.path))

    assert follow(connect, LogRequest(id="144"), out=following.out) == END
    assert following.texts == ["a"]
    assert capsys.readouterr().err.count("the network is away") == 1


def test_a_quick_restart_is_not_worth_a_word(
    following: Following, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = following.daemon.streams
    following.daemon.scripts = [
        streams(*wire(HEAD, line("a", 2)), cut=True),
        streams(*wire(HEAD, END)),
    ]
    following.follow(id="144")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("nonsense", [b"hello", b"{}", b'{"type": "news"}', b"\xff"])
def test_nonsense_among_the_entries_ends_it(following: Following, nonsense: bytes) -> None:
    following.daemon.scripts = [following.daemon.streams(*wire(HEAD), nonsense)]
    with pytest.raises(DaemonError, match="among log entries"):
        following.follow(id="144")


def test_entries_come_with_the_lines_they_were_sent_as(following: Following) -> None:
    sent = wire(HEAD, line("a", 2), END)
    following.daemon.scripts = [following.daemon.streams(*sent)]
    got = list(entries(following.connect, LogRequest(id="144"), lambda _: None))
    assert [text for text, _ in got] == sent
    assert got[-1][1] == END


def test_the_pieces_of_a_long_line_are_one_line_also_over_a_cut(daemon: Any) -> None:
    pieces = [msgspec.structs.replace(line("x" * 9, 9 * n), more=True) for n in (1, 2)]
    between = line("other", 6, job="144.2.train")
    daemon.scripts = [
        daemon.streams(*wire(HEAD, pieces[0], between, pieces[1]), cut=True),
        daemon.streams(*wire(HEAD, line("end", 22), END)),
    ]
    following = Following(daemon)
    following.follow()
    lines = following.out.getvalue().splitlines()
    assert [text.rsplit(" ", 1)[1] for text in lines] == ["other", "x" * 18 + "end"]
    assert lines[1].startswith("144.1.train     | [2017-08-30T09:59:15Z] ")


def test_a_long_line_is_one_object_in_json_and_what_is_not_complete_says_so(daemon: Any) -> None:
    pieces = [msgspec.structs.replace(line("ab", 2 * n), more=True) for n in (1, 2)]
    daemon.scripts = [daemon.streams(*wire(HEAD, *pieces, END))]
    following = Following(daemon)
    found = [entry for _, entry in entries(following.connect, LogRequest(id="144"), print)]
    (whole,) = [entry for entry in found if isinstance(entry, LineEntry)]
    assert (whole.text, whole.end, whole.more) == ("abab", 4, True)


def test_of_a_line_without_end_no_more_than_so_much_is_kept(
    daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_LONGEST_LINE", 5)
    pieces = [msgspec.structs.replace(line("abc", 3 * n), more=True) for n in (1, 2, 3, 4)]
    daemon.scripts = [daemon.streams(*wire(HEAD, *pieces, line("d", 13), END))]
    following = Following(daemon)
    found = [entry for _, entry in entries(following.connect, LogRequest(id="144"), print)]
    assert [entry.text for entry in found if isinstance(entry, LineEntry)] == [
        "abcabc",
        "abcabc",
        "d",
    ]
