"""What a person sees, on a terminal and in a file."""

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.nested_bars import visible
from riseml.screen import RESET, Screen, age, clean, cut, has_colour, paint, stamp
from riseml_proto.messages import (
    ElidedEntry,
    Entry,
    HeadEntry,
    LineEntry,
    PartialEntry,
    StateEntry,
)
from riseml_proto.states import State

NOW = datetime(2017, 8, 30, 9, 59, 6, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def line(text: str, job: str = "144.1.train") -> LineEntry:
    return LineEntry(job=job, attempt=1, time=NOW, text=text, end=len(text) + 1)


def partial(text: str, job: str = "144.1.train") -> PartialEntry:
    return PartialEntry(job=job, attempt=1, time=NOW, text=text)


def state(id_: str, name: State, **facts: object) -> StateEntry:
    return StateEntry(id=id_, time=NOW, state=name, seq=1, **facts)  # type: ignore[arg-type]  # facts are its fields


def shown(*entries: Entry, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    screen = Screen(out)
    for entry in (HeadEntry(id="144", count=8), *entries):
        screen.show(entry)
    return out.getvalue()


def test_states_look_as_the_seed_shows_them() -> None:
    assert shown(
        state("144", State.PENDING), state("144.1", State.PENDING), state("144.2", State.CREATED)
    ) == (
        "144             | [2017-08-30T09:59:06Z] --> PENDING\n"
        "144.1           | [2017-08-30T09:59:06Z] --> PENDING\n"
        "144.2           | [2017-08-30T09:59:06Z] --> CREATED\n"
    )


def test_an_end_has_its_reason_message_and_exit_code() -> None:
    end = state("144.1", State.FINISHED, reason="COMPLETED", message="Command true", exit_code=0)
    prefix = "144.1           | [2017-08-30T09:59:06Z] "
    assert shown(end).splitlines() == [
        f"{prefix}--> FINISHED",
        f"{prefix}Reason: COMPLETED",
        f"{prefix}Message: Command true",
        f"{prefix}Exit Code: 0",
    ]


def test_every_line_of_a_message_has_its_prefix() -> None:
    lines = shown(state("144", State.FAILED, message="Command 'a\nb' failed")).splitlines()
    assert [line.split("] ")[1] for line in lines] == [
        "--> FAILED",
        "Message: Command 'a",
        "b' failed",
    ]


def test_output_and_what_was_left_out_share_the_format() -> None:
    elided = ElidedEntry(id="144", time=NOW, state=State.CREATED, count=999_990)
    assert shown(line("loss 0.3"), elided) == (
        "144.1.train     | [2017-08-30T09:59:06Z] loss 0.3\n"
        "144             | [2017-08-30T09:59:06Z] 999,990 more are CREATED\n"
    )


def test_a_user_in_front_of_the_id_does_not_change_the_width() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.show(HeadEntry(id="paul2.144.2", count=8))
    screen.show(line("x", "144.2.train"))
    assert out.getvalue().startswith("144.2.train     | [")


def test_in_a_file_there_are_no_escapes_of_ours_and_no_partial_lines() -> None:
    text = shown(partial("10%"), partial("20%"), line("10%\r20%\r"), state("144", State.RUNNING))
    assert text == (
        "144.1.train     | [2017-08-30T09:59:06Z] 20%\n"
        "144             | [2017-08-30T09:59:06Z] --> RUNNING\n"
    )


def test_on_a_terminal_states_have_colours_unless_the_user_wants_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shown(state("144", State.FAILED), out=Terminal()).endswith("--> \x1b[31mFAILED\x1b[0m\n")
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(state("144", State.FAILED), line("\x1b[1mx"), out=Terminal()).count("\x1b") == 0
    assert not has_colour(Terminal(), {"TERM": "dumb"})
    assert has_colour(io.StringIO(), {"FORCE_COLOR": "1"})
    assert has_colour(io.StringIO(), {"CLICOLOR_FORCE": "1", "TERM": "dumb"})
    assert not has_colour(Terminal(), {"FORCE_COLOR": "0", "TERM": "xterm"})
    assert not has_colour(Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"})


def test_the_line_being_written_stays_below_the_others() -> None:
    text = shown(partial("10%"), line("other", "144.2.train"), line("100%"), out=Terminal())
    prefix = "144.1.train     | [2017-08-30T09:59:06Z] "
    erase = "\r\x1b[K"
    assert text == (
        f"{erase}{prefix}10%"
        f"{erase}144.2.train     | [2017-08-30T09:59:06Z] other\n"
        f"{erase}{prefix}10%"
        f"{erase}{prefix}100%\n"
    )


def test_the_line_being_written_never_wraps() -> None:
    text = shown(partial(1000 * "x"), out=Terminal())
    assert len(text.removeprefix("\r\x1b[K")) == 79


def test_a_notice_takes_the_line_being_written_away(capsys: pytest.CaptureFixture[str]) -> None:
    out = Terminal()
    screen = Screen(out)
    screen.show(HeadEntry(id="144", count=0))
    screen.show(partial("10%"))
    screen.notice("away")
    assert out.getvalue().endswith("10%\r\x1b[K")
    assert capsys.readouterr().err == "riseml: away\n"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("plain", "plain"),
        ("10%\r20%\r100%", "100%"),
        ("10%\r20%\r", "20%"),
        ("\r\r", ""),
        ("", ""),
    ],
)
def test_of_what_overwrites_itself_the_last_is_visible(text: str, rest: str) -> None:
    assert visible(text) == rest


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]52;c;aGk=\x1b\\after", "after"),
        ("\x1b[2J\x1b[Hafter", "after"),
        ("\x1b[?1049hafter", "after"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x1bcafter", "after"),
        ("\x9b2Jafter", "after"),
        ("a\x08\x07\x0bb", "ab"),
        ("\x1b", ""),
        ("\x1b[", ""),
        ("\x1b]never ends", ""),
        ("\x1b[31mred", f"\x1b[31mred{RESET}"),
        ("\x1b[31mred\x1b[0m.", "\x1b[31mred\x1b[0m."),
        ("\x1b[38;5;9mred\x1b[m", "\x1b[38;5;9mred\x1b[m"),
        ("naïve 日本 👍", "naïve 日本 👍"),
        ("a\tb", "a       b"),
    ],
)
def test_a_job_cannot_play_with_the_terminal(hostile: str, harmless: str) -> None:
    assert clean(hostile, colour=True) == harmless


@given(st.text(alphabet=st.sampled_from("\x1b[]Pm0;9Kh\x07\x08\r\n\t\\\x9b\x9d x")))
def test_nothing_but_colours_gets_through(text: str) -> None:
    left = re.sub(r"\x1b\[[\d;:]*m", "", clean(text, colour=True))
    assert left.isprintable()
    assert clean(text, colour=False).isprintable()


def test_what_is_too_long_is_cut_by_columns() -> None:
    assert cut("12345", 5) == "12345"
    assert cut("123456", 5) == "1234…"
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 6) == "日本語"
    assert cut(f"{paint(State.RUNNING)} and more", 9) == f"\x1b[36mRUNNING{RESET} …{RESET}"
    assert cut("x", 0) == "…"


def test_ages_and_times() -> None:
    ages = [0, 8, 59, 60, 7199, 7200, 86399, 86400, 4 * 86400, -5]
    assert [age(NOW - timedelta(seconds=s), NOW) for s in ages] == [
        "0 second(s)",
        "8 second(s)",
        "59 second(s)",
        "1 minute(s)",
        "1 hour(s)",
        "2 hour(s)",
        "23 hour(s)",
        "1 day(s)",
        "4 day(s)",
        "0 second(s)",
    ]
    assert stamp(NOW.astimezone(tz=None)) == "2017-08-30T09:59:06Z"


def nested(epochs: int, steps: int) -> list[str]:
    """The lines of a log in which two bars of tqdm, one in the other, were drawn."""
    text = "\repochs 0"
    for epoch in range(1, epochs + 1):
        for step in range(steps + 1):
            text += f"\n\rsteps {step}\x1b[A"
        text += f"\repochs {epoch}"
    return [*f"{text}\n\n".split("\n")[:-2], "done"]


def test_nested_bars_are_one_line_each_in_a_file() -> None:
    text = shown(*map(line, nested(3, 50)))
    assert [row.rpartition("] ")[2] for row in text.splitlines()] == [
        "epochs 0",  # it was no nested bar then
        "epochs 3",
        "steps 50",
        "done",
    ]


def test_nested_bars_are_drawn_again_in_their_place_on_a_terminal() -> None:
    text = shown(*map(line, nested(1, 2)[:4]), out=Terminal())
    prefix = "144.1.train     | [2017-08-30T09:59:06Z] "
    assert text.endswith(
        f"\r\x1b[K{prefix}steps 1\r\x1b[K\r\x1b[K{prefix}epochs 1\n{prefix}steps 2"
    )


def test_bars_of_a_job_that_has_ended_become_lines() -> None:
    text = shown(*map(line, nested(1, 2)[:4]), state("144.1", State.FAILED))
    assert text.splitlines()[-3:] == [
        "144.1.train     | [2017-08-30T09:59:06Z] epochs 1",
        "144.1.train     | [2017-08-30T09:59:06Z] steps 2",
        "144.1           | [2017-08-30T09:59:06Z] --> FAILED",
    ]


def test_no_moves_however_wild_lose_plain_lines() -> None:
    text = shown(line("\x1b[99A\x1b[A"), line("\rx\x1b[55A"), line("plain"), line("\rlast"))
    rows = [row.rpartition("] ")[2] for row in text.splitlines()]
    assert rows == ["x", "plain", "last"]
