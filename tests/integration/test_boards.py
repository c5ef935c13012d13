"""The real TensorBoard, beside an experiment and over past ones, as a browser and as another user meet it."""

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from box import PATIENCE, Box, need

from rised.tensorboard.peers import peer_uid
from riseml_proto.states import State

pytestmark = pytest.mark.slow  # each of them waits for a real engine, or a real TensorBoard

SWEEP = """\
project: compared
train:
  parameters: {lr: [0.1, 0.01]}
  run:
    - >-
      echo "{\\"accuracy\\": 0.9, \\"step\\": 3}" >> $OUTPUT_DIR/riseml-results.jsonl
    - echo ready; read x < ../../go{{lr}}
  concurrency: 2
  tensorboard: true
"""


@pytest.fixture
def board(box: Box) -> Box:
    need(importlib.util.find_spec("tensorboard") is not None, "TensorBoard")
    for lr in ("0.1", "0.01"):
        os.makedirs(box.state / "work", exist_ok=True)
        os.mkfifo(box.state / f"go{lr}")
    return box


def sweep(box: Box) -> str:
    """Start it; both of its members run, and wait."""
    number = box.train(SWEEP)
    for member in (1, 2):
        box.wait_for_line(f"{number}.{member}", "ready")
    return number


def go(box: Box) -> None:
    for lr in ("0.1", "0.01"):
        (box.state / f"go{lr}").write_text("go\n")


def url(box: Box, number: str) -> str:
    """The URL that `riseml status` shows; follows the job's log until it is up."""
    told = subprocess.Popen(
        [sys.executable, "-m", "riseml", "logs", "-f", f"{number}.tensorboard"],
        env=box.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    with told:
        try:
            assert told.stdout is not None
            line = next(line for line in told.stdout if "TensorBoard at" in line)
        finally:
            told.kill()
    found = line.split("TensorBoard at ")[1].strip()
    assert f"Tensorboard: {found}\n" in box.run("status", number).stdout
    return found


def ask(place: str, body: object = None) -> Any:
    """What it answers, as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(place, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def runs(place: str, wanted: int) -> list[str]:
    """The runs, once there are as many as wanted: TensorBoard looks for new ones every few seconds."""
    while len(found := ask(f"{place}data/runs")) < wanted:
        pass
    return sorted(found)


def test_runs_are_named_as_sub_experiments_and_have_their_parameters_and_results(
    board: Box,
) -> None:
    number = sweep(board)
    place = url(board, number)
    assert runs(place, 2) == [f"{number}.1", f"{number}.2"]
    shown = ask(f"{place}data/plugin/hparams/experiment", {})
    assert [info["name"] for info in shown["hparamInfos"]] == ["lr"]
    assert [info["name"]["tag"] for info in shown["metricInfos"]] == ["accuracy"]
    points = ask(f"{place}data/plugin/scalars/scalars?run={number}.1&tag=accuracy")
    assert [point[1:] for point in points] == [[3, pytest.approx(0.9)]]
    go(board)
    assert board.wait_for_end(number) is State.FINISHED


def test_it_ends_with_its_experiment(board: Box) -> None:
    number = sweep(board)
    place = url(board, number)
    board.run("kill", "-f", number)
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        while True:
            ask(f"{place}data/runs")
    assert "Tensorboard" not in board.run("status", number).stdout
    assert not [line for line in board.processes().values() if "rised.tensorboard" in line]


def test_it_outlives_the_daemon_and_is_taken_back(board: Box) -> None:
    number = sweep(board)
    place = url(board, number)
    board.kill_daemon()
    assert ask(f"{place}data/runs") is not None
    board.start()
    assert f"Tensorboard: {place}\n" in board.run("status", number).stdout
    boards = [line for line in board.processes().values() if "-m rised.tensorboard" in line]
    assert len([line for line in boards if line.startswith(sys.executable)]) == 1
    go(board)
    board.wait_for_end(number)


def boards(box: Box) -> set[int]:
    """The pids of the TensorBoards themselves."""
    command = f"{sys.executable} -m rised.tensorboard"
    return {pid for pid, line in box.processes().items() if line.startswith(command)}


def test_one_that_dies_again_and_again_is_told_with_its_exit_code_and_log(board: Box) -> None:
    number = sweep(board)
    killed: set[int] = set()
    for _ in range(3):
        while not (new := boards(board) - killed):
            pass
        (pid,) = new
        os.kill(pid, signal.SIGKILL)
        killed |= new
    said = f"has ended by itself (exit code 137); its log: riseml logs {number}.tensorboard"
    while f"Tensorboard: {said}\n" not in (shown := board.run("status", number).stdout):
        assert "Tensorboard" not in shown or "has ended by itself" in shown
    detail: Any = board.json("status", number)
    assert detail["tensorboard_problem"] == said
    assert board.run("logs", f"{number}.tensorboard").returncode == 0
    go(board)
    assert board.wait_for_end(number) is State.FINISHED
    assert f"Tensorboard: {said}\n" in board.run("status", number).stdout
    board.kill_daemon()
    board.start()
    assert f"Tensorboard: {said}\n" in board.run("status", number).stdout


def test_one_that_died_and_was_started_again_is_no_problem(board: Box) -> None:
    number = sweep(board)
    place = url(board, number)
    (pid,) = boards(board)
    os.kill(pid, signal.SIGKILL)
    while f"Tensorboard: {place.partition(':')[0]}" not in (
        shown := board.run("status", number).stdout
    ):
        assert "cannot be started" not in shown
    go(board)
    board.wait_for_end(number)
    assert "Tensorboard" not in board.run("status", number).stdout


def test_one_that_cannot_be_started_is_told(board: Box) -> None:
    (board.state / "boards").write_text("in the way\n")
    number = sweep(board)
    while "Tensorboard: cannot be started: " not in (shown := board.run("status", number).stdout):
        assert "Tensorboard" not in shown
    assert f"{board.state}/boards" in shown
    go(board)
    board.wait_for_end(number)


def test_one_on_request_that_dies_says_how(board: Box) -> None:
    number = board.train("project: a\ntrain: {run: 'true'}\n")
    board.wait_for_end(number)
    command = [sys.executable, "-m", "riseml", "tensorboard", number]
    with subprocess.Popen(
        command, env=board.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as told:
        assert told.stdout is not None
        assert told.stdout.readline().startswith("TensorBoard at http")
        (pid,) = boards(board)
        os.kill(pid, signal.SIGTERM)
        _, error = told.communicate(timeout=PATIENCE)
    assert error.startswith("riseml: TensorBoard has ended by itself (exit code 143: ")
    assert told.returncode == 2


@contextlib.contextmanager
def opened(box: Box, *ids: str) -> Iterator[str]:
    """`riseml tensorboard`, until the block is left."""
    command = [sys.executable, "-m", "riseml", "tensorboard", "--json", *ids]
    with subprocess.Popen(command, env=box.env, stdout=subprocess.PIPE, text=True) as told:
        try:
            assert told.stdout is not None
            yield json.loads(told.stdout.readline())["url"]
        finally:
            told.terminate()


def test_past_experiments_can_be_compared_side_by_side(board: Box) -> None:
    report = "echo '{\"loss\": 1}' >> $OUTPUT_DIR/riseml-results.jsonl"
    numbers = [board.train(f"project: p{n}\ntrain: {{run: {json.dumps(report)}}}\n") for n in "ab"]
    for number in numbers:
        board.wait_for_end(number)
    with opened(board, *numbers) as place:
        assert runs(place, 2) == sorted(numbers)


@pytest.fixture
def stranger() -> Iterator[str]:
    """Another user of the machine."""
    need(os.getuid() == 0, "root, who can make users")
    need(shutil.which("curl") is not None, "curl")
    name = f"riseml-other-{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=True)


def test_nobody_else_on_the_machine_can_reach_it(
    make_box: Callable[..., Box], board: Box, stranger: str
) -> None:
    number = sweep(board)
    place = url(board, number)
    uid = pwd.getpwnam(stranger).pw_uid
    mine, theirs = (
        subprocess.run(
            ["curl", "-s", f"{place}data/runs"], capture_output=True, check=False, user=u
        )
        for u in (None, uid)
    )
    assert mine.returncode == 0
    assert theirs.returncode != 0
    assert theirs.stdout == b""
    board.run("kill", "-f", number)


def test_the_kernel_says_whose_a_connection_is() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0 0 1\n"
        "   1: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1007 0 2\n"
    )
    client, server = ("127.0.0.1", 0xC001), ("127.0.0.1", 0x1F90)
    assert peer_uid(table, client, server) == 1007
    assert peer_uid(table, ("127.0.0.1", 5), server) is None


@pytest.mark.slow
def test_a_browser_finds_the_runs_and_the_hparams_tab(board: Box, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    need(browser is not None, "chromium")
    assert browser is not None
    number = sweep(board)
    place = url(board, number)
    runs(place, 2)
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"),
    ]
    pages = [
        subprocess.run(
            [browser, *flags, f"{place}#{tab}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=90,
        ).stdout
        for tab in ("timeseries", "hparams")
    ]
    assert f"{number}.1" in pages[0]
    assert f"{number}.2" in pages[0]
    assert "<tf-hparams-dashboard" in pages[1]  # its table is in a shadow tree
    board.run("kill", "-f", number)
