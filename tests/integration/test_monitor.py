"""What real jobs use, as a real daemon sees it."""

import json
import signal
from typing import Any

import pytest
from box import PATIENCE, Box
from engine import BUSYBOX
from test_commands import Typed, typed

from riseml_proto.errors import NotFound
from riseml_proto.messages import JobUse, Usage
from riseml_proto.states import State

BURN = """\
import time
while True:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    print("0.2 seconds", flush=True)
"""
HOLD = """\
held = bytearray(b"x" * (100 << 20))
print("held", flush=True)
open("gate").read()
"""


def config(command: str, **more: str) -> str:
    sections = "".join(f"  {name}: {text}\n" for name, text in more.items())
    return f"project: toaster\ntrain:\n  run: {command}\n{sections}"


def sample(box: Box, wanted: str = "") -> Usage:
    with box.client() as client:
        return client.get(f"/v1/usage{wanted and f'?id={wanted}'}", Usage)


def one(box: Box, wanted: str = "") -> JobUse:
    (job,) = sample(box, wanted).jobs
    return job


def test_processor_time_rises_as_a_job_computes(box: Box) -> None:
    number = box.train(config("exec python burn.py"), **{"burn.py": BURN})
    box.wait_for_line(number, "0.2 seconds")
    before = one(box)
    lines = (entry for entry in box.entries(number) if getattr(entry, "text", "") == "0.2 seconds")
    for _ in range(10):
        next(lines)
    after = one(box)
    # Ten lines are ten times 0.2 s; the first ones may have been there before.
    assert after.cpu_seconds - before.cpu_seconds > 0.4
    assert after.state is State.RUNNING
    shown = box.run("monitor", number).stdout.splitlines()[1].split()
    assert shown[:3] == [number, "toaster", "RUNNING"]
    assert float(shown[3].partition("/")[0]) > 0


def test_what_ended_children_have_used_stays_counted(box: Box) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\n"
    number = box.train(
        config("mkfifo gate; python burn.py; echo burnt; read x < gate"), **{"burn.py": burn}
    )
    box.wait_for_line(number, "burnt")
    assert one(box).cpu_seconds > 0.4


def test_memory_that_a_job_holds_is_shown(box: Box) -> None:
    project = config(
        "mkfifo gate; exec python hold.py", resources="{cpus: 1.5, mem: 2GiB, gpus: 2}"
    )
    number = box.train(project, **{"hold.py": HOLD})
    box.wait_for_line(number, "held")
    job = one(box)
    assert 100 <= job.memory < 200
    assert job.processes >= 1
    assert (job.requested_cpus, job.requested_memory, job.gpus) == (1.5, 2048, [0, 1])
    (shown,) = [line for line in box.run("monitor").stdout.splitlines() if "toaster" in line]
    assert "|1.5 " in shown
    assert "|2.0 GiB" in shown


def test_sub_experiments_are_rows_and_one_may_be_asked_for(box: Box) -> None:
    text = config(
        "mkfifo gate; echo on; read x < gate", parameters="{n: [1, 2, 3]}", concurrency="2"
    )
    number = box.train(text)
    for member in (1, 2):
        box.wait_for_line(f"{number}.{member}", "on")
    assert [job.id for job in sample(box, number).jobs] == [f"{number}.1", f"{number}.2"]
    assert one(box, f"{number}.2").id == f"{number}.2"
    assert sample(box, f"{number}.3").jobs == []


def test_declared_gpus_are_shown_without_figures(box: Box) -> None:
    rows = [line.split() for line in box.run("monitor", "--gpu").stdout.splitlines()]
    assert rows[0] == ["ID", "NAME", "UTIL", "MEM", "POWER", "TEMP", "BUS", "ID"]
    assert rows[1:] == [[str(n), *"------"] for n in range(4)]


def test_what_has_ended_uses_nothing_and_what_never_was_is_an_error(box: Box) -> None:
    number = box.train(config("'true'"))
    assert box.wait_for_end(number) is State.FINISHED
    assert box.run("monitor", number).stdout == f"Nothing of {number} runs\n"
    found: Any = box.json("monitor", number)
    assert found["jobs"] == []
    unknown = box.run("monitor", "999", check=False)
    assert unknown.returncode == 2
    assert "999" in unknown.stderr
    with pytest.raises(NotFound):
        sample(box, f"{number}.7")


def test_a_containers_processes_are_counted_with_what_has_ended(engine_box: Box) -> None:
    box = engine_box
    # The shell that counts is a child of the one that waits, and is gone then.
    count = "sh -c 'n=0; while [ $n -lt 400000 ]; do n=$((n+1)); done'"
    command = f'"mkfifo /tmp/gate; {count}; echo on; read x < /tmp/gate"'
    number = box.train(config(command, image=BUSYBOX))
    box.wait_for_line(number, "on")
    job = one(box)
    assert job.cpu_seconds > 0.1
    assert 0 < job.memory < 50
    assert job.processes >= 2


@pytest.mark.slow
def test_a_live_monitor_survives_a_daemon_that_is_killed_and_started_again(box: Box) -> None:
    number = box.train(config("mkfifo gate; echo on; read x < gate"))
    box.wait_for_line(number, "on")
    with typed(box, "monitor", "--json", "--follow") as command:
        before = read_jobs(command)
        assert [job["id"] for job in before] == [number]
        box.kill_daemon()
        box.start()
        for _ in range(3):
            assert [job["id"] for job in read_jobs(command)] == [number]
        command.process.send_signal(signal.SIGINT)
        assert command.process.wait(PATIENCE) == 0


def read_jobs(command: Typed) -> list[dict[str, Any]]:
    """The jobs of the next sample."""
    command.printed = ""
    command.until("\n")
    jobs: list[dict[str, Any]] = json.loads(command.printed.splitlines()[-1])["jobs"]
    return jobs
