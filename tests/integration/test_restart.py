"""A daemon that dies or stops while jobs run, and one that comes back: what it finds is what happened."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aftermath import (
    Gate,
    assert_attempts_rise,
    assert_nothing_is_left,
    database,
    end_daemon,
    output,
    ran,
    refused,
    shells,
    wait_until_gone,
    watch,
)
from box import Box

from riseml_proto.states import State

MakeBox = Callable[..., Box]

WRITES_UNTIL_TOLD = """\
project: restart
train:
  parameters: {end: ["exit 0", "exit 7", "kill -KILL $$"]}
  concurrency: 3
  env: {STOP: %s}
  run: |
    sh -c 'i=0
    until [ -e "$STOP" ]; do i=$((i+1)); echo "$i"; sleep 0.01; done
    echo "total $i"
    {{end}}'
"""
UNTIL_TOLD = """\
project: restart
train:
  parameters: {n: [1, 2, 3]}
  concurrency: 2
  env: {RAN: %s, GATE: %s}
  run:
    - echo "$EXPERIMENT_ID" >>"$RAN"
    - echo ready
    - cat <"$GATE"
"""


def members(box: Box, target: str = "1") -> list[dict[str, Any]]:
    """The sub-experiments in `riseml status`."""
    detail = json.loads(box.run("status", target, "--json").stdout)
    found: list[dict[str, Any]] = detail["experiments"]
    return found


def train(box: Box, text: str, *ready: str) -> Gate:
    """Start `text`, with the places of `ran` and of a gate in it, and wait until the jobs `ready` say so."""
    gate = Gate(box.root / "gate")
    box.train(text % (box.root / "ran", gate.path))
    for target in ready:
        box.wait_for_line(target, "ready")
    return gate


def test_output_and_exit_code_of_a_job_that_ends_while_no_daemon_runs_are_kept(
    make_box: MakeBox,
) -> None:
    box = make_box()
    box.start()
    box.train(WRITES_UNTIL_TOLD % (box.root / "stop"))
    follower = subprocess.Popen(
        [sys.executable, "-m", "riseml", "logs", "-f", "1"],
        env=box.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    lines: list[str] = []
    while sum(line.endswith("] 20\n") for line in lines) < 3:
        lines.append(follower.stdout.readline())
        assert lines[-1]
    box.kill_daemon()
    jobs = set(box.processes()) - {follower.pid}
    assert jobs
    (box.root / "stop").touch()
    wait_until_gone(jobs)
    box.start()
    lines += follower.stdout.readlines()
    follower.stdout.close()

    assert follower.wait() == 0
    told: dict[str, list[str]] = {}
    for line in lines:
        if found := re.fullmatch(r"(1\.\d)\.train +\| \[\S+\] (\d+|total \d+)\n", line):
            told.setdefault(found[1], []).append(found[2])
    assert sorted(told) == ["1.1", "1.2", "1.3"]
    for job in told.values():
        total = int(job[-1].removeprefix("total "))
        assert job[:-1] == [str(i) for i in range(1, total + 1)]
    assert [m["exit_code"] for m in members(box)] == [0, 7, 137]
    assert [m["state"] for m in members(box)] == ["FINISHED", "FAILED", "FAILED"]
    assert [m["reason"] for m in members(box)] == ["COMPLETED", "ERROR", "ERROR"]
    box.stop()
    assert_nothing_is_left(box)


def test_a_clean_stop_leaves_jobs_running_and_the_next_daemon_takes_them_back(
    make_box: MakeBox,
) -> None:
    box = make_box()
    box.start()
    gate = train(box, UNTIL_TOLD, "1.1", "1.2")
    before = shells(box, "1.1", "1.2")
    box.stop()
    assert set(before) <= set(box.processes())
    box.start()
    assert [m["state"] for m in members(box)] == ["RUNNING", "RUNNING", "CREATED"]
    gate.open()
    assert box.wait_for_end("1") is State.FINISHED
    box.stop()
    assert ran(box) == ["1.1", "1.2", "1.3"]
    assert_nothing_is_left(box)


def test_a_time_limit_goes_on_while_no_daemon_runs(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    limited = UNTIL_TOLD.replace("concurrency: 2", "concurrency: 2\n  time_limit: 1h")
    gate = train(
        box, limited.replace('"$GATE"', '"$GATE"; [ {{n}} != 2 ] || sleep 1000'), "1.1", "1.2"
    )
    first = shells(box, "1.1")
    box.kill_daemon()
    with database(box.state) as db:  # two hours ago, as far as anybody knows
        db.execute("UPDATE members SET started_ms = started_ms - 7200000")
    gate.open()
    wait_until_gone(first)
    box.start()
    assert box.wait_for_end("1") is State.FINISHED
    ended, over, _ = members(box)
    assert (ended["state"], ended["exit_code"]) == ("FINISHED", 0)
    assert (over["state"], over["reason"]) == ("FAILED", "TIME_LIMIT")
    box.stop()
    assert_nothing_is_left(box)


def test_a_kill_that_was_written_down_is_carried_out_by_the_next_daemon(make_box: MakeBox) -> None:
    box = make_box()
    box.start(crash_at="kill-recorded")
    gate = train(box, UNTIL_TOLD, "1.1", "1.2")
    assert box.run("kill", "1.1", check=False).returncode == 2
    box.wait_for_crash()
    box.start()
    assert box.wait_for_end("1.1") is State.KILLED
    assert members(box)[1]["state"] == "RUNNING"
    gate.open()
    box.wait_for_end("1")
    assert [m["state"] for m in members(box)] == ["KILLED", "FINISHED", "FINISHED"]
    box.stop()
    assert_nothing_is_left(box)


def test_jobs_end_before_a_daemon_that_is_to_stop_them(make_box: MakeBox) -> None:
    box = make_box(stop_jobs=True)
    box.start()
    train(box, UNTIL_TOLD, "1.1", "1.2")
    box.stop()
    assert box.processes() == {}
    with database(box.state) as db:
        rows = db.execute("SELECT state FROM members WHERE started_ms > 0").fetchall()
    assert rows == [("KILLED",), ("KILLED",)]
    assert "Traceback" not in box.log.read_text()


def test_what_ends_unwatched_after_a_kill_was_written_down_is_killed(make_box: MakeBox) -> None:
    """The kill of the set, whose members were not asked to end yet, is found with the members gone already."""
    box = make_box()
    box.start(crash_at="kill-recorded")
    gate = train(box, UNTIL_TOLD, "1.1", "1.2")
    running = shells(box, "1.1") + shells(box, "1.2")
    assert box.run("kill", "1", check=False).returncode == 2
    box.wait_for_crash()
    gate.open()
    wait_until_gone(running)
    with database(
        box.state
    ) as db:  # no process has such a pid any more, though init may not have reaped them yet
        db.execute("UPDATE members SET handle = json_set(handle, '$.start', 1)")
    box.start()
    assert box.wait_for_end("1") is State.KILLED
    assert [m["state"] for m in members(box)] == ["KILLED", "KILLED", "KILLED"]
    box.stop()
    assert_nothing_is_left(box)


RETRIED = """\
project: restart
train:
  retries: 2
  env: {RAN: %s, GATE: %s}
  run: |
    touch "$RAN"; n=$(wc -l <"$RAN"); echo "$EXPERIMENT_ID" >>"$RAN"; echo "number $n"
    cat <"$GATE$n"; exit 9
"""


def test_retries_are_counted_over_restarts(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    gates = [Gate(box.root / f"gate{number}") for number in range(3)]
    box.train(RETRIED % (box.root / "ran", box.root / "gate"))
    for number, gate in enumerate(gates):
        box.wait_for_line("1", f"number {number}")
        jobs = box.processes()
        box.kill_daemon()
        gate.open()
        wait_until_gone(jobs)
        box.start()
    entries = []
    for entry in box.entries("1"):
        entries.append(entry)
        assert "number 3" not in str(entry)
    assert members(box)[0]["exit_code"] == 9
    assert members(box)[0]["state"] == "FAILED"
    box.stop()
    assert output(entries) == {"1.train": ["number 0", "number 1", "number 2"]}
    assert ran(box) == ["1", "1", "1"]
    assert_attempts_rise(box)
    assert_nothing_is_left(box)


def reboot(box: Box, **pids: int) -> None:
    """Kill the daemon, end all jobs as a loss of power does, and let the handles be of an earlier boot.

    `pids` says which process has a job's pid and start after that, as `m1=4711` for member 1 of experiment 1.
    """
    box.kill_daemon()
    jobs = box.processes()
    for pid in jobs:
        with contextlib.suppress(ProcessLookupError):  # its parent was the first to go
            os.kill(pid, signal.SIGKILL)
    wait_until_gone(jobs)
    with database(box.state) as db:
        handles = db.execute("SELECT experiment, member, handle FROM members WHERE handle NOTNULL")
        for experiment, member, text in handles.fetchall():
            identity = json.loads(text) | {"boot": "an earlier boot"}
            if f"m{member}" in pids and experiment == 1:
                pid = pids[f"m{member}"]
                start = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
                identity |= {"pid": pid, "start": start}
            db.execute(
                "UPDATE members SET handle = ? WHERE (experiment, member) = (?, ?)",
                (json.dumps(identity), experiment, member),
            )


def exit_files(box: Box) -> dict[str, Path]:
    """Job and attempt → its exit file."""
    files = (path for path in (box.state / "run").iterdir() if path.is_file())
    return {path.read_text().split("\n")[1]: path for path in files}


def test_what_ran_when_the_power_went_is_lost_and_what_waited_runs(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    gate = train(box, UNTIL_TOLD.replace("2, 3", "2, 3, 4, 5").replace("y: 2", "y: 4"))
    for member in (1, 2, 3, 4):
        box.wait_for_line(f"1.{member}", "ready")
    bystander = subprocess.Popen(["sleep", "1000"], env={})
    reboot(box, m1=bystander.pid)
    files = exit_files(box)
    # What the disk has of a file that was not flushed: another job's end, what it was before, and nothing.
    files["1.2.train.1"].write_text("0  \n1.9.train.1\n")
    files["1.3.train.1"].write_text("new\n1.3.train.1\n")
    files["1.4.train.1"].write_text("")
    gate.open()
    box.start()
    box.wait_for_end("1")
    assert [m["state"] for m in members(box)] == [*["FAILED"] * 4, "FINISHED"]
    assert [m["reason"] for m in members(box)] == [*["LOST"] * 4, "COMPLETED"]
    assert [m["exit_code"] for m in members(box)] == [*[None] * 4, 0]
    assert ran(box) == ["1.1", "1.2", "1.3", "1.4", "1.5"]
    box.stop()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    assert_nothing_is_left(box)


def test_what_ran_when_the_power_went_runs_again_where_retries_are_left(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    gate = train(box, UNTIL_TOLD.replace("run:", "retries: 1\n  run:"), "1.1", "1.2")
    reboot(box)
    gate.open()
    box.start()
    assert box.wait_for_end("1") is State.FINISHED
    assert [m["state"] for m in members(box)] == ["FINISHED"] * 3
    box.stop()
    assert ran(box) == ["1.1", "1.1", "1.2", "1.2", "1.3"]
    assert_attempts_rise(box)
    assert_nothing_is_left(box)


LEAVES_SOMETHING = UNTIL_TOLD.replace("- echo ready", "- setsid sleep 1000 & echo ready")


def test_a_job_whose_shell_is_killed_has_failed_and_leaves_nothing(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    gate = train(box, LEAVES_SOMETHING, "1.1", "1.2")
    for pid in shells(box, "1.1", "1.2"):
        os.kill(pid, signal.SIGKILL)
    gate.open()
    box.wait_for_end("1")
    assert [m["state"] for m in members(box)] == ["FAILED", "FAILED", "FINISHED"]
    assert [m["exit_code"] for m in members(box)] == [137, 137, 0]
    assert box.processes() == {}
    box.stop()
    assert_nothing_is_left(box)


def test_a_job_whose_shell_is_killed_while_no_daemon_runs_is_lost(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    gate = train(box, LEAVES_SOMETHING, "1.1", "1.2")
    killed = shells(box, "1.1", "1.2")
    box.kill_daemon()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(killed)
    assert box.processes()
    box.start()
    gate.open()
    box.wait_for_end("1")
    assert [m["state"] for m in members(box)] == ["FAILED", "FAILED", "FINISHED"]
    assert [m["reason"] for m in members(box)] == ["LOST", "LOST", "COMPLETED"]
    assert [m["exit_code"] for m in members(box)] == [None, None, 0]
    assert box.processes() == {}
    box.stop()
    assert_nothing_is_left(box)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["before-commit", "after-spawn", "before-begin", "after-begin"])
def test_a_daemon_that_dies_again_and_again_runs_nothing_twice(
    make_box: MakeBox, name: str
) -> None:
    box = make_box()
    box.start()
    gate = train(box, UNTIL_TOLD, "1.1", "1.2")
    box.kill_daemon()
    gate.open()
    for _ in range(4):
        box.start(crash_at=name)
        watch(box, "1")
        end_daemon(box)
    box.start()
    assert box.wait_for_end("1") is State.FINISHED
    assert [m["state"] for m in members(box)] == ["FINISHED"] * 3
    box.stop()
    assert ran(box) == ["1.1", "1.2", "1.3"]
    assert_attempts_rise(box)
    assert_nothing_is_left(box)


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    box.stop()
    with database(box.state) as db:
        db.execute("PRAGMA user_version = 99")
    before = (box.state / "rised.db").read_bytes()
    assert "newer rised (schema 99" in refused(box)
    assert (box.state / "rised.db").read_bytes() == before


WIDE = """\
project: damage
train:
  parameters: {n: {range: {min: 1, max: 60, step: 1}}}
  concurrency: 4
  env: {RAN: %s, GATE: %s}
  run: '[ {{n}} -lt 50 ] || cat <"$GATE"'
"""


def end_on_damage(box: Box) -> None:
    """Start a daemon on a damaged database and end it: it says so, without a traceback, or does what it can."""
    assert box.daemon is not None
    before = box.log.stat().st_size
    box.start(crash_at="nowhere")  # it need not come up
    asked = box.run("status", "-a", check=False)
    assert asked.returncode in (0, 2)
    box.daemon.terminate()
    code = box.daemon.wait()
    told = box.log.read_text()[before:]
    assert "Traceback" not in told, told
    assert code in (0, 2, -signal.SIGTERM), told
    assert code != 2 or "rised.db: " in told


@pytest.mark.slow
def test_a_damaged_database_is_said_to_be_that(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    gate = train(box, WIDE)
    box.wait("1.49", lambda entry: getattr(entry, "state", None) == State.FINISHED)
    box.stop()
    gate.open()
    path = box.state / "rised.db"
    whole = path.read_bytes()
    for place in range(0, len(whole), 4096):
        for junk in (b"\xa5", b"\0"):
            path.write_bytes(whole[:place] + 4096 * junk + whole[place + 4096 :])
            end_on_damage(box)


def test_a_file_that_is_no_database_is_said_to_be_that(make_box: MakeBox) -> None:
    box = make_box()
    box.state.mkdir()
    (box.state / "rised.db").write_bytes(b"\xa5" * 8192)
    assert "rised.db: file is not a database; move it away" in refused(box)


@pytest.mark.slow
def test_a_log_of_changes_that_was_cut_short_gives_an_earlier_state(make_box: MakeBox) -> None:
    box = make_box()
    box.start()
    gate = train(box, WIDE)
    box.wait("1.49", lambda entry: getattr(entry, "state", None) == State.FINISHED)
    box.kill_daemon()
    gate.open()
    wait_until_gone(box.processes())
    files = {name: (box.state / name).read_bytes() for name in ("rised.db", "rised.db-wal")}
    used = len(files["rised.db-wal"].rstrip(b"\0"))
    for length in (0, 31, 32, *(used * n // 8 for n in range(1, 8))):
        (box.state / "rised.db").write_bytes(files["rised.db"])
        (box.state / "rised.db-wal").write_bytes(files["rised.db-wal"][:length])
        box.start()
        listed = json.loads(box.run("status", "-a", "--json").stdout)
        assert len(listed) <= 1
        for summary in listed:
            assert sum(summary["counts"].values()) == 60
        box.kill_daemon()
        for pid in box.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
