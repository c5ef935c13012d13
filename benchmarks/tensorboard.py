"""How long a person waits for TensorBoard: beside an experiment, and started by hand."""

import contextlib
import importlib.util
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.daemon import BIN, PATIENCE, Daemon, daemon
from benchmarks.ground import Ground, MeasurementFailed, median
from benchmarks.table import Figure

_EXPERIMENT = "tensorboard: true\nrun: sleep 100000\n"


def measure(ground: Ground) -> Iterator[Figure]:
    """From `riseml train` and from `tensorboard`, in turns, until the URL can be fetched."""
    if importlib.util.find_spec("tensorboard") is None:
        yield Figure("needs the package tensorboard", None, "")
        return
    ours, theirs = [], []
    with daemon(ground) as rised:
        for _ in range(ground.size(5, 2)):
            theirs.append(_by_hand(rised, ground.make_directory()))
            ours.append(_train(rised))
    yield Figure("riseml train, tensorboard: true", median(ours), "s")
    yield Figure("tensorboard --logdir DIR --port N", median(theirs), "s")
    more = [our - their for our, their in zip(ours, theirs, strict=True)]
    yield Figure("riseml takes more", median(more), "s", at_most=1)


def _train(rised: Daemon) -> float:
    project = rised.project(_EXPERIMENT)
    begun = time.perf_counter()
    number = json.loads(rised.riseml("train", "-d", "--json", cwd=project))["id"]
    deadline = begun + PATIENCE
    while not (
        url := re.search(r"Tensorboard: (\S+)", rised.riseml("status", number, cwd=project))
    ):
        if time.perf_counter() > deadline:
            raise MeasurementFailed("riseml status tells no URL of a TensorBoard")
    _fetch(url[1])
    took = time.perf_counter() - begun
    rised.riseml("kill", "-f", number, cwd=project)
    return took


def _by_hand(rised: Daemon, directory: Path) -> float:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [str(BIN / "tensorboard"), "--logdir", str(directory), "--port", str(port)]
    begun = time.perf_counter()
    with subprocess.Popen(
        argv, env=rised.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as board:
        try:
            _fetch(f"http://127.0.0.1:{port}/")
            return time.perf_counter() - begun
        finally:
            board.terminate()


def _fetch(url: str) -> None:
    """Return when the URL's page has come."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        with contextlib.suppress(urllib.error.URLError), opener.open(url, timeout=PATIENCE) as page:
            page.read()
            return
        time.sleep(0.01)
    raise MeasurementFailed(f"{url} cannot be reached")
