"""`riseml logs`."""

import io
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from riseml.__main__ import main
from riseml.commands.logs import parse_count, parse_since
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import EndEntry, HeadEntry, LineEntry, LogRequest
from riseml_proto.states import State

NOW = datetime(2017, 8, 30, 9, 59, 6, tzinfo=UTC)
SENT = [
    msgspec.json.encode(HeadEntry(id="144", count=0)),
    msgspec.json.encode(LineEntry(job="144.train", attempt=1, time=NOW, text="é\ud7ff", end=9)),
    msgspec.json.encode(EndEntry(state=State.FAILED, counts={"FAILED": 1})),
]
CONFIG = "project: toaster\ntrain:\n  run: python train.py\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a riseml.yml."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def run(daemon: Any, *argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["logs", "--host", f"unix://{daemon.path}", *argv])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def received(daemon: Any) -> LogRequest:
    request: LogRequest = msgspec.json.decode(daemon.requests[-1].body, type=LogRequest)
    return request


def test_read_to_the_end_is_success_whatever_the_job_did(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.scripts = [daemon.streams(*SENT)]
    assert run(daemon, "144") == 0
    assert capsys.readouterr().out == "144.train       | [2017-08-30T09:59:06Z] é\ud7ff\n"
    assert received(daemon) == LogRequest(id="144")


def test_what_was_typed_is_what_the_daemon_is_asked(daemon: Any) -> None:
    daemon.scripts = [daemon.streams(*SENT)]
    run(daemon, "-f", "-n", "10", "--since", "2017-08-30T11:59:06+02:00", "144.2.train")
    assert received(daemon) == LogRequest(id="144.2.train", follow=True, tail=10, since=NOW)


def test_a_duration_is_reckoned_by_the_daemons_clock(daemon: Any) -> None:
    then = int(NOW.timestamp() * 1000)
    daemon.scripts = [
        daemon.answers(
            b'{"user": "paul", "uid": 1, "host": "box"}',
            headers=f"Rised-Api: 2\r\nRised-Time: {then}",
        ),
        daemon.streams(*SENT),
    ]
    assert run(daemon, "--since", "2h", "144") == 0
    since = received(daemon).since
    assert since is not None
    assert timedelta() <= since - (NOW - timedelta(hours=2)) < timedelta(minutes=1)


def test_without_an_id_it_is_the_projects_last_experiment(daemon: Any, elsewhere: Path) -> None:
    daemon.scripts = [daemon.streams(*SENT)]
    run(daemon)
    assert received(daemon) == LogRequest()
    (elsewhere / "riseml.yml").write_text(CONFIG)
    run(daemon)
    assert received(daemon) == LogRequest(project="toaster")


def test_json_is_what_the_daemon_sent(daemon: Any, capfdbinary: Any) -> None:
    daemon.scripts = [daemon.streams(*SENT)]
    assert run(daemon, "--json", "144") == 0
    assert capfdbinary.readouterr().out == b"".join(line + b"\n" for line in SENT)


def test_raw_is_the_bytes_of_the_log(daemon: Any, capfdbinary: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\nContent-Length: 6\r\n\r\n"
    daemon.scripts = [daemon.says(head + b"\x00a\r\xff\n\n")]
    assert run(daemon, "--raw", "144.train") == 0
    assert capfdbinary.readouterr().out == b"\x00a\r\xff\n\n"
    assert received(daemon).raw


def test_an_output_that_cannot_show_a_character_shows_its_code(
    daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.scripts = [daemon.streams(*SENT)]
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    assert run(daemon, "144") == 0
    assert raw.getvalue().endswith(b"] \\xe9\\ud7ff\n")


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("2017-08-30T09:59:06Z", timedelta()),
        ("2017-08-30T11:59:06+02:00", timedelta()),
        ("2017-08-30 09:59:06", timedelta()),
        ("2017-08-30", timedelta(hours=9, minutes=59, seconds=6)),
    ],
)
def test_since_is_a_duration_or_a_time_which_is_utc_unless_it_says(
    text: str, ago: timedelta
) -> None:
    since = parse_since(text)
    assert (NOW - since if isinstance(since, timedelta) else since) == NOW - ago


@pytest.mark.parametrize("text", ["", "soon", "10", "m", "-1h", "1.5h", "999999999d", "2017-13-01"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidInput, match="such as 30s, 10m, 2h or 1d"):
        parse_since(text)


def test_a_number_of_lines_is_a_number() -> None:
    assert parse_count("0") == 0
    for wrong in ("-1", "ten", "", "²"):
        with pytest.raises(InvalidInput, match="-n takes a number of lines"):
            parse_count(wrong)


def test_a_broken_riseml_yml_is_told_with_its_place(
    daemon: Any, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "riseml.yml").write_text("project: [\n")
    assert run(daemon) == 2
    assert capsys.readouterr().err.startswith("riseml: riseml.yml:")
    assert os.listdir(elsewhere) == ["riseml.yml"]
