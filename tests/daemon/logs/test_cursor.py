"""A cursor decides from plain data which attempts a stream has still to send."""

from datetime import UTC, datetime

import pytest

from rised.logs.cursor import Cursor
from rised.logs.source import Attempt
from riseml_proto.messages import LogRequest

KEY = "144.2.train/1"


def attempt(began: int, ended: int | None = None, ended_ms: int | None = None) -> Attempt:
    return Attempt(144, 2, "train", 1, "/log", began, 1000, ended, ended_ms)


def cursor(start: int, **offsets: int) -> Cursor:
    return Cursor(seq=start, start=start, offsets={KEY: offsets["at"]} if "at" in offsets else {})


def test_it_begins_where_the_client_says_and_does_not_touch_the_request() -> None:
    request = LogRequest(after=7, offsets={KEY: 100})
    begun = Cursor.of(request)
    begun.offsets[KEY] = 200
    assert (begun.seq, request.offsets) == (7, {KEY: 100})


@pytest.mark.parametrize(
    ("began", "ended", "past", "over"),
    [(5, None, True, False), (5, 10, True, True), (5, 11, True, False), (11, None, False, False)],
)
def test_past_is_what_began_and_over_what_ended_before_the_stream(
    began: int, ended: int | None, past: bool, over: bool
) -> None:
    assert cursor(10).is_past(attempt(began, ended)) is past
    assert cursor(10).has_ended(attempt(began, ended)) is over


@pytest.mark.parametrize(
    ("request_", "at", "seen"),
    [
        (LogRequest(), None, False),
        (LogRequest(opening=True), None, False),
        (LogRequest(after=10), None, False),
        (LogRequest(after=10, opening=True), None, True),
        (LogRequest(after=10, tail=5), None, True),
        (LogRequest(after=10, opening=True), 100, False),
        (LogRequest(after=10, tail=5), 0, False),
    ],
)
def test_an_end_that_the_client_must_have_seen_is_not_sent_again(
    request_: LogRequest, at: int | None, seen: bool
) -> None:
    where = cursor(10) if at is None else cursor(10, at=at)
    assert where.is_seen(attempt(5, 10), request_) is seen
    assert not where.is_seen(attempt(5, 11), request_)  # it has ended since
    assert not where.is_seen(attempt(5), request_)


def test_since_leaves_out_what_ended_before() -> None:
    request = LogRequest(since=datetime.fromtimestamp(2, UTC))
    assert cursor(10).is_seen(attempt(5, 10, 1999), request)
    assert not cursor(10).is_seen(attempt(5, 10, 2000), request)
    assert not cursor(10).is_seen(attempt(5), request)


def test_what_was_sent_early_is_not_sent_again_when_its_page_comes() -> None:
    where = cursor(10)
    where.early.add(KEY)
    assert where.is_seen(attempt(5), LogRequest())


def test_pages_bring_each_past_attempt_once() -> None:
    every = [attempt(began) for began in (2, 4, 6, 8, 12)]
    where = cursor(8)
    where.rewind()
    brought = []
    while where.more_pages:
        page = [each for each in every if each.began > where.page_after][:2]
        brought += where.turn_page(page, 2)
    assert [each.began for each in brought] == [2, 4, 6, 8]


def test_after_a_rewind_the_pages_come_again() -> None:
    where = cursor(8)
    assert where.turn_page([attempt(2), attempt(9)], 2) == [attempt(2)]
    assert (where.page_after, where.more_pages) == (9, False)
    where.rewind()
    assert (where.page_after, where.more_pages) == (0, True)


def test_a_stream_from_the_start_has_no_past() -> None:
    where = cursor(0)
    where.rewind()
    assert not where.more_pages
