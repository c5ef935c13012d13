"""What ten thousand idle connections and five hundred followers cost everybody else."""

import contextlib
import resource
import selectors
import socket
import threading
import time
from collections.abc import Iterator

from benchmarks.daemon import Daemon, daemon
from benchmarks.ground import Ground, median
from benchmarks.table import Figure

_SPARE = 700
_FOLLOW = b"GET /v1/experiments/%s/logs?follow=true HTTP/1.1\r\nHost: a\r\n\r\n"
_ASK = b"GET /v1/experiments HTTP/1.1\r\nHost: a\r\n\r\n"
_BUSY = """\
run: while echo line; do sleep 0.1; done
concurrency: 4
parameters: {n: [1, 2, 3, 4]}
"""


def measure(ground: Ground) -> Iterator[Figure]:
    """`status` without anybody else, and in a crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The daemon keeps half of its descriptors for jobs and logs, and we need one for each connection, too.
    idle = min(ground.size(10_000, 1_000), hard // 2 - _SPARE)
    followers = ground.size(500, 100)
    try:
        with daemon(ground, gpus=4) as rised:
            number = rised.train(rised.project(_BUSY))
            alone = _status(rised)
            command = median([rised.timed("status") for _ in range(9)])
            with _crowd(rised, number, idle, followers):
                crowded = _status(rised)
                in_crowd = median([rised.timed("status") for _ in range(9)])
            rised.riseml("kill", "-f", number)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield Figure("the request alone", 1e3 * alone, "ms")
    name = f"with {idle:,} idle connections and {followers} followers"
    yield Figure(name, crowded / alone, "x", at_most=2)
    yield Figure("the whole command, alone", 1e3 * command, "ms")
    yield Figure(name, in_crowd / command, "x", at_most=2)


def _status(rised: Daemon) -> float:
    """Seconds from a request to its answer, the median of many."""
    took = []
    with _connection(rised) as client:
        for _ in range(200):
            begun = time.perf_counter()
            client.sendall(_ASK)
            answer = b""
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                answer += client.recv(65536)
            took.append(time.perf_counter() - begun)
            time.sleep(0.005)
    return median(took)


@contextlib.contextmanager
def _crowd(rised: Daemon, number: str, idle: int, followers: int) -> Iterator[None]:
    over = threading.Event()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as reading:
        for _ in range(idle):
            stack.enter_context(_connection(rised))
        for _ in range(followers):
            client = stack.enter_context(_connection(rised))
            client.sendall(_FOLLOW % number.encode())
            reading.register(client, selectors.EVENT_READ)

        def read() -> None:
            while not over.is_set():
                for key, _ in reading.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.recv(1 << 20)
                time.sleep(0.05)  # a reader of our own must not be what is measured

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(2)  # until all have been told what there was before
        try:
            yield
        finally:
            over.set()
            thread.join()


def _connection(rised: Daemon) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(rised.socket))
    return client
