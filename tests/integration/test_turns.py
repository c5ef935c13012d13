"""Who starts next, as people see and change it: the queue, priority, pause, concurrency, quotas, a drained server."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from box import Box

from riseml_proto.states import State

_TITLES = ["POS", "ID", "USER", "PROJECT", "PRIORITY", "GPUS", "LEFT", "EXPECTED", "WHY"]
ONE = "project: p\ntrain:\n  resources: {gpus: 1}\n  run: echo ran\n"


def blocker(box: Box, gpus: int = 1, more: str = "") -> tuple[str, Path]:
    """An experiment that has begun and ends when something is written to the file."""
    fifo = box.root / f"go{gpus}"
    if not fifo.exists():
        os.mkfifo(fifo)
    text = f"project: p\ntrain:\n  resources: {{gpus: {gpus}}}\n{more}"
    number = box.train(text + f"  run: echo begun; read x < {fifo}\n")
    box.wait_for_line(number, "begun")
    return number, fifo


def let_go(fifo: Path) -> None:
    fifo.write_text("go\n")


def order_of_ends(box: Box, *numbers: str) -> list[str]:
    ends = {}
    for number in numbers:
        assert box.wait_for_end(number) is State.FINISHED
        ended: Any = box.json("status", number)
        ends[number] = ended["experiments"][0]["ended_at"]
    return sorted(numbers, key=ends.__getitem__)


def waiting(box: Box) -> list[dict[str, Any]]:
    found: Any = box.json("queue")
    return list(found["experiments"])


def test_priority_decides_at_submission_and_later(make_box: Callable[..., Box]) -> None:
    box = make_box(gpus=1)
    box.start()
    _, fifo = blocker(box)
    first, second = box.train(ONE), box.train(ONE)
    done = box.run("train", "-d", "--priority", "5", cwd=box.project(ONE))
    third = str(int(second) + 1)
    assert third in done.stdout
    assert box.run("set", second, "--priority", "9").stdout == f"experiment {second}: priority 9\n"
    assert [one["id"] for one in waiting(box)] == [second, third, first]
    box.kill_daemon()
    box.start()
    assert [one["id"] for one in waiting(box)] == [second, third, first]
    let_go(fifo)
    assert order_of_ends(box, first, second, third) == [second, third, first]


def test_what_is_paused_waits_until_it_is_resumed_also_over_a_restart(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(gpus=1)
    box.start()
    _, fifo = blocker(box)
    paused, other = box.train(ONE), box.train(ONE)
    assert box.run("pause", paused).stdout == f"paused experiment {paused}\n"
    box.kill_daemon()
    box.start()
    let_go(fifo)
    assert box.wait_for_end(other) is State.FINISHED
    told = f"Reason: paused; riseml resume {paused} lets it go on"
    assert told in box.run("status", "-l", paused).stdout.splitlines()
    assert [one["id"] for one in waiting(box)] == [paused]
    assert box.run("resume", paused).stdout == f"resumed experiment {paused}\n"
    assert box.wait_for_end(paused) is State.FINISHED


def test_a_sets_concurrency_can_be_changed_while_it_runs(box: Box) -> None:
    fifo = box.root / "go"
    os.mkfifo(fifo)
    grid = "  parameters: {n: [1, 2, 3]}\n  resources: {gpus: 1}\n"
    number = box.train(f"project: p\ntrain:\n{grid}  run: echo begun; read x < {fifo}\n")
    box.wait_for_line(f"{number}.1", "begun")
    said = box.run("set", number, "--concurrency", "3").stdout
    assert said == f"experiment {number}: concurrency 3\n"
    for member in 2, 3:
        box.wait_for_line(f"{number}.{member}", "begun")
    assert box.run("set", number, "--concurrency", "1").returncode == 0
    box.kill_daemon()
    box.start()  # more run than may
    with fifo.open("w") as file:
        file.write("go\n" * 3)
        file.flush()
        assert box.wait_for_end(number) is State.FINISHED


def test_the_queue_shows_the_order_and_when_each_is_expected(make_box: Callable[..., Box]) -> None:
    box = make_box(
        gpus=1, kill_grace=1800
    )  # what is left of the time limit is an hour for as long as the test may take
    box.start()
    running, fifo = blocker(box, more="  time_limit: 1h\n")
    first = box.train(ONE + "  time_limit: 30m\n")
    second, third = box.train(ONE), box.train(ONE)
    title, *lines = box.run("queue").stdout.splitlines()
    assert title.split() == _TITLES
    assert [line.split()[:2] for line in lines] == [["1", first], ["2", second], ["3", third]]
    assert "1 hour(s)" in lines[0]
    assert lines[0].endswith("waits for 1 GPU (0 free)")
    assert [one["expected"] is None for one in waiting(box)] == [False, False, True]
    assert all(len(line) <= 100 for line in lines)
    let_go(fifo)
    assert box.wait_for_end(third) is State.FINISHED
    assert waiting(box) == []
    assert box.wait_for_end(running) is State.FINISHED


def test_a_drained_server_starts_nothing_until_it_is_undrained(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(gpus=1)
    box.start()
    running, fifo = blocker(box)
    box.run("system", "drain", "--reason", "new disks")
    number = box.train(ONE)
    box.kill_daemon()
    box.start()
    let_go(fifo)
    assert box.wait_for_end(running) is State.FINISHED
    assert "Reason: the server is drained: new disks" in box.run("status", number).stdout
    (queued,) = waiting(box)
    assert queued["why"] == "the server is drained: new disks"
    assert queued["waits_for"] == {"type": "drained", "reason": "new disks"}
    assert "The server is drained: new disks" in box.run("system", "info").stdout
    assert box.run("system", "undrain").stdout == "what waits may start again\n"
    assert box.wait_for_end(number) is State.FINISHED


def test_quotas_bound_what_runs_what_waits_and_what_lies_there(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(gpus=4)
    file = box.root / "config.yml"
    file.write_text("quotas: {default: {gpus: 1, queued: 3, disk: 2MiB}}\n")
    box.flags["config"] = file
    box.start()
    _, fifo = blocker(box)
    waits = box.train(ONE)
    told = "waits for your other experiments: at most 1 GPU at once"
    assert [one["why"] for one in waiting(box)] == [told]
    without_gpus = box.train(
        "project: p\ntrain:\n  run: head -c 3000000 /dev/zero > $OUTPUT_DIR/x\n"
    )
    assert box.wait_for_end(without_gpus) is State.FINISHED
    blocked = box.train(ONE)

    def refused(text: str) -> str:
        done = box.run("train", "-d", cwd=box.project(text), check=False)
        assert done.returncode == 2
        return done.stderr

    assert "your quota is 3 unfinished experiments, and that many are there" in refused(ONE)
    two = ONE.replace("gpus: 1", "gpus: 2")
    assert "asks for 2, and your quota is 1 GPU at once; ask for less" in refused(two)
    let_go(fifo)
    assert order_of_ends(box, waits, blocked) == [waits, blocked]
    box.kill_daemon()  # or it would remember for a minute what it measured before
    box.start()
    assert "your quota is 2 MiB of outputs, and there are" in refused(ONE)


def test_what_makes_no_sense_is_one_clear_error(box: Box) -> None:
    ended = box.train("project: p\ntrain:\n  run: 'true'\n")
    box.wait_for_end(ended)
    single, fifo = blocker(box)
    for argv, told in (
        (["set", single], "nothing is to be changed; say --concurrency N or --priority N"),
        (["set", single, "--priority", "101"], "must be a whole number from -100 to 100"),
        (["set", single, "--concurrency", "0"], "must be a whole number, 1 or more"),
        (["set", single, "--concurrency", "2"], "only a set has a concurrency"),
        (["pause", ended], f"{ended} has ended; nothing is left of it to change"),
        (["pause", f"{single}.train"], f"only a whole experiment can be changed; say {single}"),
        (["resume", "999"], "there is no experiment 999"),
        (["system", "undrain", "--reason", "x"], "say it with riseml system drain"),
    ):
        done = box.run(*argv, check=False)
        assert done.returncode == 2
        assert told in done.stderr
    let_go(fifo)
    assert box.wait_for_end(single) is State.FINISHED
