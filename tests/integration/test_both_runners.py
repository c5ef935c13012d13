"""What holds in processes and in containers alike: the time to save, the shell, and the output."""

import os
import pwd
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import PATIENCE
from engine import PYTHON, need_python
from hostile import Stage, mark

from riseml_proto.states import Reason, State

USER = pwd.getpwuid(os.getuid()).pw_name
GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
# Finishes its step, for which it needs workers that end by SIGTERM, and then saves.
NEEDS_WORKERS = """
import multiprocessing, os, queue, signal
def work(q):
    while True:
        q.put(os.getpid())
stop = False
def ask(*_):
    global stop
    stop = True
if __name__ == "__main__":
    q = multiprocessing.Queue(1)
    workers = [multiprocessing.Process(target=work, args=(q,), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    signal.signal(signal.{signal}, ask)
    print("up", flush=True)
    while not stop:
        signal.pause()
    for _ in range(50):
        q.get(timeout=20)
    assert all(worker.is_alive() for worker in workers)
    open(os.environ["OUTPUT_DIR"] + "/ckpt", "w").close()
    print("saved", flush=True)
"""
SHAPES = [
    "python3 -c '{code}'",
    "exec python3 -c '{code}'",
    "cd .\npython3 -c '{code}'\necho never",
]


@pytest.fixture(scope="module", params=["process", "container"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, dict[str, object]]]:
    """A daemon, and what in `train` makes its jobs run in this way."""
    train: dict[str, object] = {}
    if request.param == "container":
        need_python()
        train["image"] = PYTHON
    made = Stage(tmp_path_factory.mktemp(request.param), kill_grace=60)
    try:
        made.begin()
        yield made, train
    finally:
        made.close()


def code(name: str = "SIGTERM") -> str:
    return NEEDS_WORKERS.replace("{signal}", name)


@pytest.mark.parametrize("shape", SHAPES, ids=["plain", "exec", "script"])
def test_a_program_saves_with_its_workers_help(
    place: tuple[Stage, dict[str, object]], shape: str
) -> None:
    stage, train = place
    number = stage.submit(shape.replace("{code}", code()), **train)
    stage.wait_for_line(number, "up")
    stage.kill(number)
    assert stage.lines(number)[:2] == ["up", "saved"]
    assert "never" not in stage.lines(number)
    assert stage.member(number).state is State.KILLED


def test_stop_signal_is_the_one_that_comes(place: tuple[Stage, dict[str, object]]) -> None:
    stage, train = place
    command = SHAPES[0].replace("{code}", code("SIGUSR1"))
    number = stage.submit(command, stop_signal="USR1", **train)
    stage.wait_for_line(number, "up")
    stage.kill(number)
    assert stage.lines(number)[:2] == ["up", "saved"]
    assert "never" not in stage.lines(number)


def test_the_end_of_time_limit_asks_in_the_same_way(
    place: tuple[Stage, dict[str, object]],
) -> None:
    stage, train = place
    number = stage.submit(SHAPES[0].replace("{code}", code()), time_limit="2s", **train)
    stage.wait_for_end(number)
    assert stage.lines(number)[:2] == ["up", "saved"]
    assert "never" not in stage.lines(number)
    assert stage.member(number).reason == Reason.TIME_LIMIT


def test_kill_grace_of_an_experiment_counts_and_not_the_daemons(
    place: tuple[Stage, dict[str, object]],
) -> None:
    stage, train = place
    token = mark()
    number = stage.submit(
        f"trap 'echo asked' TERM; echo up; while :; do sleep {token} || true; done",
        kill_grace="0.2",
        **train,
    )
    stage.wait_for_line(number, "up")
    stage.kill(number)
    assert stage.member(number).state is State.KILLED
    stage.assert_clean(token)


@pytest.mark.parametrize(
    "write",
    [
        "echo b >/dev/stderr",
        "echo b | tee /dev/stderr >/dev/null",
        'python3 -c \'open("/dev/stdout", "w").write("b\\n")\'',
    ],
)
def test_what_opens_its_output_again_writes_behind_what_is_there(
    place: tuple[Stage, dict[str, object]], write: str
) -> None:
    stage, train = place
    number = stage.submit(f"echo a\n{write}\necho c\n", **train)
    assert stage.wait_for_end(number) is State.FINISHED
    assert stage.lines(number) == ["a", "b", "c"]


def test_output_goes_on_and_no_job_stops_while_no_daemon_runs(
    place: tuple[Stage, dict[str, object]],
) -> None:
    """A pipe that nobody reads takes 64 KiB; this is thirty times as much."""
    stage, train = place
    number = stage.submit("echo up; seq 300000; echo end; touch $OUTPUT_DIR/done", **train)
    stage.wait_for_line(number, "up")
    stage.kill_daemon()
    done = stage.output / USER / "p" / number / "done"
    deadline = time.monotonic() + PATIENCE
    while not done.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stage.start()
    assert stage.wait_for_end(number) is State.FINISHED
    assert stage.lines(number) == ["up", *map(str, range(1, 300_001)), "end"]


@pytest.mark.parametrize("command", ["python3 -c 'exit(3)'\necho more", "(exit 3) | cat"])
def test_a_failed_training_is_failed(place: tuple[Stage, dict[str, object]], command: str) -> None:
    stage, train = place
    number = stage.submit(command, **train)
    assert stage.wait_for_end(number) is State.FAILED
    assert stage.member(number).exit_code == 3
    assert stage.lines(number) == []


def test_a_first_line_names_the_interpreter(place: tuple[Stage, dict[str, object]]) -> None:
    stage, train = place
    script = "#!/usr/bin/env python3\nimport os, sys\nprint(os.environ['N'], sys.argv[1:])\n"
    number = stage.submit(script, parameters={"n": [7]}, **train)
    assert stage.wait_for_end(number) is State.FINISHED
    assert stage.lines(f"{number}.1") == ["7 []"]


def test_train_shell_names_another(place: tuple[Stage, dict[str, object]]) -> None:
    stage, train = place
    number = stage.submit("import sys; print(len(sys.argv))", shell="python3", **train)
    assert stage.wait_for_end(number) is State.FINISHED
    assert stage.lines(number) == ["2"]


def test_the_guides_program_saves_and_goes_on(place: tuple[Stage, dict[str, object]]) -> None:
    stage, train = place
    section = GUIDE.read_text().partition("## Save when asked to end\n")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block
    number = stage.submit(
        f"#!/usr/bin/env python3\n{block[1]}", time_limit="2s", retries=1, **train
    )
    stage.wait_for_end(number)
    first, saved, again, _ = stage.lines(number)
    assert first == "start at 0"
    assert again == saved.replace("saved step", "start at")
