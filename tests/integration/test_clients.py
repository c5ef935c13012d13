"""No client, slow, stopped or hostile, delays another, the jobs or the shutdown."""

import contextlib
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import PATIENCE, Box

from riseml_proto.messages import LineEntry, Whoami
from riseml_proto.states import State

SLEEP = "project: a\ntrain: {run: 'echo ready; exec sleep 1000'}\n"
STREAM = b"GET /v1/experiments/%s/logs?follow=true HTTP/1.1\r\nHost: a\r\n\r\n"


@contextlib.contextmanager
def connected(box: Box, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(
                str(box.socket)
            )  # waits where the queue is full, as with a timeout it would not
            client.settimeout(PATIENCE)
            made.append(client)
        yield made


def seconds(box: Box) -> float:
    """The median time of `riseml status`."""
    times = []
    for _ in range(5):
        begin = time.monotonic()
        box.run("status")
        times.append(time.monotonic() - begin)
    return statistics.median(times)


def memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def few_files(box: Box, limit: int) -> None:
    """Let the daemon open so many files, and not more."""
    argv = ["/bin/sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *box.argv()]
    box.argv = lambda: argv  # type: ignore[method-assign]


def follower(box: Box, target: str) -> subprocess.Popen[bytes]:
    """`riseml logs -f` whose output somebody reads, or not."""
    return subprocess.Popen(
        [sys.executable, "-m", "riseml", "logs", "-f", target],
        env=box.env,
        cwd=box.root,
        stdout=subprocess.PIPE,
    )


@pytest.mark.slow
def test_idle_connections_do_not_slow_others(box: Box) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, soft - 200)
    alone = seconds(box)
    with connected(box, count):
        beside = seconds(box)
    assert beside < 3 * alone + 0.1, (alone, beside)
    box.stop()


def test_the_one_that_idled_longest_makes_room_and_jobs_go_on(make_box: Callable[..., Box]) -> None:
    box = make_box()
    few_files(box, 64)
    box.start()
    with connected(box, 100) as clients:
        assert box.train("project: a\ntrain: {run: 'echo hello'}\n") == "1"
        assert box.wait_for_end("1") is State.FINISHED
        for client in clients[:60]:
            assert client.recv(1) == b""
        clients[-1].sendall(b"GET /v1/whoami HTTP/1.1\r\nHost: a\r\n\r\n")
        assert clients[-1].recv(100).startswith(b"HTTP/1.1 200")
    box.stop()


def test_a_daemon_whose_followers_take_every_place_says_so_and_recovers(
    make_box: Callable[..., Box],
) -> None:
    box = make_box()
    few_files(box, 64)
    box.start()
    number = box.train(SLEEP)
    with connected(box, 32) as clients:
        for client in clients:
            client.sendall(STREAM % number.encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        done = box.run("status", check=False)
        assert done.returncode == 2
        assert "rised serves 32 others" in done.stderr
        assert box.processes()
    assert "RUNNING" in box.run("status").stdout
    box.run("kill", "-f", number)
    box.stop()


@pytest.mark.slow
def test_stopped_followers_cost_little_and_hold_up_nobody(box: Box) -> None:
    assert box.daemon is not None
    fifo = box.root / "fifo"
    os.mkfifo(fifo)
    write = f"read go < {fifo}; (yes {'x' * 1000} || true) | head -c 100000000; echo; echo all"
    number = box.train(f"project: a\ntrain: {{run: 'echo ready; {write}'}}\n")
    box.wait_for_line(number, "ready")
    followers = [follower(box, number) for _ in range(3)]
    try:
        for process in followers:
            assert process.stdout is not None
            while b"ready" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGSTOP)
        before = memory(box.daemon.pid)
        fifo.write_text("go\n")
        texts = (e.text for e in box.entries(number, tail=1) if isinstance(e, LineEntry))
        assert "all" in texts
        assert box.wait_for_end(number) is State.FINISHED
        assert memory(box.daemon.pid) - before < 50_000_000
        assert "FINISHED" in box.run("status", number).stdout
        begin = time.monotonic()
        box.stop()
        assert time.monotonic() - begin < 5
    finally:
        for process in followers:
            process.kill()
            process.communicate()


def test_a_stop_waits_for_no_client(box: Box) -> None:
    number = box.train(SLEEP)
    box.wait_for_line(number, "ready")
    with connected(box, 4) as (idle, half_a_head, half_a_body, stream):
        half_a_head.sendall(b"GET /v1/sys")
        half_a_body.sendall(b"POST /v1/logs HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        stream.sendall(STREAM % number.encode())
        assert stream.recv(100).startswith(b"HTTP/1.1 200")
        begin = time.monotonic()
        box.stop()
        assert time.monotonic() - begin < 5
        assert idle.recv(1) == b""
    assert any("sleep 1000" in command for command in box.processes().values())


def test_a_client_that_hangs_up_leaves_nothing_behind(box: Box) -> None:
    assert box.daemon is not None
    number = box.train(SLEEP)
    box.wait_for_line(number, "ready")
    place = f"/proc/{box.daemon.pid}/fd"

    def files() -> int:
        with box.client() as client:
            client.get("/v1/whoami", Whoami)
            return len(os.listdir(place))

    before = files()
    for _ in range(3):
        with connected(box, 50) as clients:
            for client in clients:
                client.sendall(STREAM % number.encode())
                assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert any(files() <= before for _ in range(1000))
    box.run("kill", "-f", number)


def test_a_follower_sees_each_line_once_though_the_daemon_is_killed_under_it(box: Box) -> None:
    fifo = box.root / "fifo"
    os.mkfifo(fifo)
    # Opened once: a round that opened it anew could meet the end of what the round before had read.
    lines = f"exec 3<> {fifo}; for n in 1 2 3; do read go <&3; seq -f $n.%g 1000; done"
    number = box.train(f"project: a\ntrain: {{run: 'echo ready; {lines}'}}\n")
    seen = []
    for entry in box.entries(number):
        if not isinstance(entry, LineEntry):
            continue
        seen.append(entry.text)
        if entry.text in ("ready", "1.1000", "2.1000"):
            if entry.text != "ready":
                box.kill_daemon()
                box.start()
            fifo.write_text("go\n")
    assert seen == ["ready", *(f"{n}.{line}" for n in (1, 2, 3) for line in range(1, 1001))]
    assert box.wait_for_end(number) is State.FINISHED


def test_a_command_that_follows_goes_on_when_the_daemon_is_back(box: Box) -> None:
    fifo = box.root / "fifo"
    os.mkfifo(fifo)
    number = box.train(f"project: a\ntrain: {{run: 'echo one; read go < {fifo}; echo two'}}\n")
    with follower(box, number) as process:
        assert process.stdout is not None
        read = b""
        while b"one" not in read:
            read += process.stdout.readline()
        box.kill_daemon()
        fifo.write_text("go\n")
        box.start()
        read += process.stdout.read()
    text = read.decode()
    assert process.returncode == 0
    assert text.count("] one\n") == text.count("] two\n") == 1
    assert text.count("--> RUNNING\n") == text.count("--> FINISHED\n") == 1
