"""The daemon's own log: one line per event, whatever is in it."""

import io
import json
import re
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised.log import log

_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^" \n]+)')


def written(monkeypatch: pytest.MonkeyPatch, event: str, **facts: object) -> str:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    log.warning(event, **facts)
    return out.getvalue()


def test_an_event_is_one_line_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    line = written(monkeypatch, "job started", job="144.2.train", gpus=[0, 1], empty="")
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=warning "
        r'event="job started" job=144\.2\.train gpus="\[0, 1\]" empty=""\n',
        line,
    )
    assert shlex.split(line)[2] == "event=job started"


@given(st.text(st.characters(), max_size=20))
def test_no_text_breaks_out_of_its_line(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        line = written(patch, "x", fact=text)
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    pairs = dict(_PAIR.findall(line))
    value = pairs["fact"]
    assert (json.loads(value) if value.startswith('"') else value) == text


class _Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Full())
    log.error("x")
