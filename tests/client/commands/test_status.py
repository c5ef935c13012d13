"""`riseml status`, to the character."""

import json
import os
import re
import struct
import sys
from datetime import UTC, datetime, timedelta
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

import msgspec
import pytest

from riseml.__main__ import main
from riseml.commands.status_view import View, show_counts, show_detail, show_list
from riseml_proto.errors import NotFound
from riseml_proto.messages import Detail, Member, Summary
from riseml_proto.states import State

NOW = datetime(2017, 8, 30, 9, 59, 14, tzinfo=UTC)
THEN = NOW - timedelta(seconds=8)
REVISION = "4efd8d995e0c1635296ec3c404276c8d4ff2d87c"

SEED = """\
ID: 144
Type: Set
State: STARTING
Project: ai-toaster

EXP ID STATE     AGE           PARAMS
144.1  STARTING  8 second(s)   epochs=20, lr=0.0001, lr-decay=1e-6
144.2  STARTING  8 second(s)   epochs=20, lr=0.0001, lr-decay=1e-7
144.3  CREATED   8 second(s)   epochs=20, lr=0.001, lr-decay=1e-6
144.4  CREATED   8 second(s)   epochs=20, lr=0.001, lr-decay=1e-7
144.5  CREATED   8 second(s)   epochs=30, lr=0.0001, lr-decay=1e-6
144.6  CREATED   8 second(s)   epochs=30, lr=0.0001, lr-decay=1e-7
144.7  CREATED   8 second(s)   epochs=30, lr=0.001, lr-decay=1e-6
144.8  CREATED   8 second(s)   epochs=30, lr=0.001, lr-decay=1e-7"""


def member(number: int, state: State, params: dict[str, str], **facts: Any) -> Member:
    given: dict[str, Any] = {
        "gpus": [],
        "exit_code": None,
        "reason": None,
        "started_at": None,
        "ended_at": None,
    }
    id_ = f"144.{number}" if number else "144"
    return Member(id=id_, state=state, params=params, **(given | facts))


def detail(experiments: list[Member], **facts: Any) -> Detail:
    given: dict[str, Any] = {
        "id": "144",
        "type": "Set",
        "state": State.STARTING,
        "project": "ai-toaster",
        "user": "paul",
        "revision": REVISION,
        "created_at": THEN,
        "counts": {"STARTING": 2, "CREATED": 6},
        "count": len(experiments),
        "image": "nvidia/cuda:8.0-cudnn7-runtime",
        "framework": None,
        "tensorboard": None,
        "output_dir": "/out/paul/ai-toaster/144",
        "ended_at": None,
        "concurrency": 2,
        "time_limit": None,
        "retries": 0,
        "resources": {"cpus": 2, "mem": 4096, "gpus": 2},
        "reason": None,
        "experiments": experiments,
    }
    return Detail(**(given | facts))


def seed_set(**facts: Any) -> Detail:
    grid = [
        {"epochs": epochs, "lr": lr, "lr-decay": decay}
        for epochs in ("20", "30")
        for lr in ("0.0001", "0.001")
        for decay in ("1e-6", "1e-7")
    ]
    states = 2 * [State.STARTING] + 6 * [State.CREATED]
    return detail([member(i + 1, states[i], grid[i]) for i in range(8)], **facts)


def summary(id_: str, **facts: Any) -> Summary:
    whole = msgspec.structs.asdict(detail([], id=id_, **facts))
    return Summary(**{name: whole[name] for name in Summary.__struct_fields__})


def single(state: State, **facts: Any) -> Detail:
    only = member(0, state, {}, exit_code=facts.pop("exit_code", None), gpus=[3])
    return detail([only], type="Experiment", state=state, count=0, **facts)


def test_a_set_looks_as_the_seed_shows_it() -> None:
    assert "\n".join(show_detail(seed_set(), None, View(NOW))) == SEED


def test_an_experiment_shows_how_it_ended() -> None:
    ended = single(State.FAILED, exit_code=3, reason="ERROR")
    assert show_detail(ended, None, View(NOW)) == [
        "ID: 144",
        "Type: Experiment",
        "State: FAILED",
        "Project: ai-toaster",
        "GPUs: 3",
        "Exit Code: 3",
        "Reason: ERROR",
        "Output: /out/paul/ai-toaster/144",
    ]


def test_a_sub_experiment_shows_its_parameters_times_and_output() -> None:
    two = member(
        2, State.FINISHED, {"lr": "0.1"}, gpus=[0, 1], exit_code=0, reason="COMPLETED",
        started_at=THEN, ended_at=NOW,
    )  # fmt: skip
    assert show_detail(detail([two], count=8), 2, View(NOW)) == [
        "ID: 144.2",
        "Type: Sub-experiment",
        "State: FINISHED",
        "Project: ai-toaster",
        "Params: lr=0.1",
        "Started: 2017-08-30T09:59:06Z",
        "Ended: 2017-08-30T09:59:14Z",
        "GPUs: 0, 1",
        "Exit Code: 0",
        "Reason: COMPLETED",
        "Output: /out/paul/ai-toaster/144/2",
    ]
    with pytest.raises(NotFound, match=r"no sub-experiment 144\.9"):
        show_detail(detail([two], count=8), 9, View(NOW))


def test_long_tells_more_and_why_something_waits() -> None:
    waiting = member(1, State.PENDING, {"lr": "0.1"}, reason="waits for 2 GPUs, 0 of 4 are free")
    running = member(2, State.RUNNING, {"lr": "0.2"}, gpus=[0, 1])
    lines = show_detail(
        detail([waiting, running], time_limit=7200.0, retries=1), None, View(NOW, long=True)
    )
    assert lines[4:] == [
        "User: paul",
        f"Revision: {REVISION}",
        "Created: 2017-08-30T09:59:06Z",
        "Image: nvidia/cuda:8.0-cudnn7-runtime",
        "Resources: cpus=2, mem=4096, gpus=2",
        "Concurrency: 2",
        "Time Limit: 7200 second(s)",
        "Retries: 1",
        "Experiments: 2 STARTING, 6 CREATED",
        "Output: /out/paul/ai-toaster/144",
        "",
        "EXP ID STATE     AGE           GPUS EXIT REASON                            PARAMS",
        "144.1  PENDING   8 second(s)   -    -    waits for 2 GPUs, 0 of 4 are free lr=0.1",
        "144.2  RUNNING   8 second(s)   0,1  -    -                                 lr=0.2",
    ]


def test_what_is_not_shown_of_a_large_set_is_counted() -> None:
    lines = show_detail(seed_set(count=1_000_000), None, View(NOW))
    assert lines[-1] == "999,992 more sub-experiments; riseml status -a 144 shows all"


def test_parameters_cannot_break_the_table() -> None:
    bad = member(1, State.CREATED, {"x": "a\nb\x1b[2J"})
    assert show_detail(detail([bad]), None, View(NOW))[-1].endswith("x=ab")


def test_the_list_has_a_line_per_experiment() -> None:
    summaries = [
        summary("9", type="Experiment", state=State.RUNNING, created_at=NOW - timedelta(days=4)),
        summary("144"),
    ]
    assert show_list(summaries, View(NOW)) == [
        "ID  PROJECT    STATE     AGE           TYPE",
        "9   ai-toaster RUNNING   4 day(s)      Experiment",
        "144 ai-toaster STARTING  8 second(s)   Set",
    ]
    assert show_list(summaries, View(NOW, long=True))[2] == (
        "144 ai-toaster STARTING  8 second(s)   Set        paul 4efd8d995e 2 STARTING, 6 CREATED"
    )


def test_counts_begin_with_what_has_come_furthest() -> None:
    assert show_counts({"CREATED": 6000, "RUNNING": 2, "FINISHED": 0}) == "2 RUNNING, 6,000 CREATED"


# The command, with a daemon


def run(daemon: Any, *argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--host", f"unix://{daemon.path}", *argv])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_daemon_is_asked_for_what_was_typed(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    body = msgspec.json.encode(seed_set())
    daemon.scripts = [
        daemon.answers(b"[]"),
        daemon.answers(b"[]"),
        daemon.answers(body),
        daemon.answers(body),
        daemon.answers(body),
    ]
    for argv in ([], ["-a"], ["144"], ["-a", "144"], ["paul.144.2.train"]):
        assert run(daemon, *argv) == 0
    assert [request.target for request in daemon.requests] == [
        "/v1/experiments?mine=true",
        "/v1/experiments?all=true&mine=true",
        "/v1/experiments/144?limit=1000",
        "/v1/experiments/144",
        "/v1/experiments/paul.144.2?limit=1000",
    ]
    assert capsys.readouterr().out.startswith("ID PROJECT STATE     AGE           TYPE\n")


def test_a_user_alone_stands_for_their_experiments_newest_last(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = [summary("10"), summary("9"), summary("11", user="anna")]
    daemon.scripts = [daemon.answers(msgspec.json.encode(summaries))]
    run(daemon, "paul")
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["9", "10"]
    assert daemon.requests[0].target == "/v1/experiments?user=paul"


def test_json_has_exactly_the_promised_keys(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.scripts = [
        daemon.answers(msgspec.json.encode(seed_set())),
        daemon.answers(msgspec.json.encode([summary("144")])),
    ]
    run(daemon, "144", "--json")
    whole = json.loads(capsys.readouterr().out)
    run(daemon, "--json")
    (brief,) = json.loads(capsys.readouterr().out)
    keys = ["id", "type", "state", "project", "user", "revision", "created_at", "counts", "gpus"]
    assert list(brief) == keys
    assert list(whole) == [*keys, "experiments", "tensorboard_problem"]
    assert whole["created_at"] == "2017-08-30T09:59:06Z"
    assert whole["experiments"][1] == {
        "id": "144.2",
        "state": "STARTING",
        "params": {"epochs": "20", "lr": "0.0001", "lr-decay": "1e-7"},
        "gpus": [],
        "exit_code": None,
        "reason": None,
        "started_at": None,
        "ended_at": None,
        "results": {},
        "waits_for": None,
    }


@pytest.mark.parametrize("wrong", ["0", "144.0", "144.2.dance", "-1", "144 "])
def test_what_is_no_id_is_refused_without_a_daemon(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--host", "unix:///none", "--", wrong])
    assert ended.value.code == 2
    assert "is not an ID" in capsys.readouterr().err


def on_a_terminal(daemon: Any, tmp_path: Path, *argv: str) -> str:
    """What `riseml status` writes on a terminal of 40 columns."""
    master, slave = os.openpty()
    ioctl(slave, TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "riseml", "--host", f"unix://{daemon.path}", "status", *argv],
        {"TERM": "xterm", "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        file_actions=[(os.POSIX_SPAWN_DUP2, slave, 1), (os.POSIX_SPAWN_DUP2, slave, 2)],
    )
    os.close(slave)
    text = b""
    try:
        while data := os.read(master, 4096):
            text += data
    except OSError:  # EIO: the other end is closed
        pass
    os.close(master)
    os.waitpid(pid, 0)
    return text.decode()


def test_on_a_terminal_nothing_wraps_and_states_have_colours(daemon: Any, tmp_path: Path) -> None:
    daemon.scripts = [daemon.answers(msgspec.json.encode(seed_set()))]
    text = on_a_terminal(daemon, tmp_path, "144")
    assert "\x1b[36mSTARTING\x1b[0m" in text
    lines = re.sub(r"\x1b\[\d*m", "", text).split("\r\n")
    assert len(lines[6]) == 40
    assert lines[6].endswith("epochs=2…")


def test_on_a_terminal_an_empty_list_says_what_to_do(daemon: Any, tmp_path: Path) -> None:
    daemon.scripts = [daemon.answers(b"[]")]
    text = on_a_terminal(daemon, tmp_path)
    assert text == "No running experiments; riseml status -a shows ended ones\r\n"


def test_each_result_is_a_column_before_the_parameters() -> None:
    members = [
        member(1, State.FINISHED, {"lr": "0.1"}, results={"accuracy": 0.93, "loss": 1 / 3}),
        member(2, State.RUNNING, {"lr": "0.2"}, results={"accuracy": 0.5}),
        member(3, State.CREATED, {"lr": "0.3"}),
    ]
    lines = show_detail(
        msgspec.structs.replace(seed_set(), count=3, experiments=members), None, View(NOW)
    )
    assert lines[-4:] == [
        "EXP ID STATE     AGE           ACCURACY LOSS     PARAMS",
        "144.1  FINISHED  8 second(s)   0.93     0.333333 lr=0.1",
        "144.2  RUNNING   8 second(s)   0.5      -        lr=0.2",
        "144.3  CREATED   8 second(s)   -        -        lr=0.3",
    ]


def reporting(**results: object) -> Detail:
    params = {"lr": "0.0001", "lr-decay": "1e-6", "momentum": "0.9"}
    return detail([member(n, State.FINISHED, params, results=results) for n in (1, 2)])


def test_on_a_terminal_results_leave_room_for_the_parameters() -> None:
    many = reporting(accuracy=0.5, val_accuracy=0.25, loss=1, val_loss=2)
    *_, titles, _, row, note = show_detail(many, None, View(NOW, width=80))
    assert titles == "EXP ID STATE     AGE           ACCURACY VAL_ACCURACY PARAMS"
    assert row.startswith(
        "144.2  FINISHED  8 second(s)   0.5      0.25         lr=0.0001, lr-decay="
    )
    assert note == "Also reported: loss, val_loss"
    *_, titles, _, _, note = show_detail(many, None, View(NOW, width=80, sort="loss"))
    assert titles == "EXP ID STATE     AGE           LOSS ACCURACY PARAMS"
    assert note == "Also reported: val_accuracy, val_loss"
    *_, titles, _, _ = show_detail(many, None, View(NOW))
    assert titles.endswith("ACCURACY VAL_ACCURACY LOSS VAL_LOSS PARAMS")


def test_what_decides_the_order_is_shown_however_narrow_the_terminal() -> None:
    many = reporting(accuracy=0.5, loss=1)
    assert " LOSS P" in show_detail(many, None, View(NOW, width=38, sort="loss"))[5]


def test_results_of_one_have_a_line_that_no_name_can_break() -> None:
    odd = member(2, State.FINISHED, {}, results={"State": "x\ny", "loss": 1 / 3, "done": True})
    lines = show_detail(detail([odd], count=8), 2, View(NOW))
    assert "State: FINISHED" in lines
    assert "Results: State=xy, loss=0.333333, done=true" in lines


def test_the_daemon_is_asked_for_the_order(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(msgspec.json.encode(seed_set()))]
    run(daemon, "144", "--sort", "val/loss &c")
    run(daemon, "-a", "144", "--sort", "lr", "--reverse")
    assert [request.target for request in daemon.requests] == [
        "/v1/experiments/144?limit=1000&sort=val%2Floss%20%26c",
        "/v1/experiments/144?sort=lr&reverse=true",
    ]
