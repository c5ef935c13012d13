"""How long a person waits for `riseml status`."""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.daemon import daemon
from benchmarks.ground import Ground, median
from benchmarks.submit import BLOCKER, queued_set
from benchmarks.table import Figure

_SIZES = {"1 sub-experiment": (1, 1), "1,000": (1, 1000), "1,000,000": (1000, 1000)}


def measure(ground: Ground) -> Iterator[Figure]:
    """The list and the detail, with ever more sub-experiments waiting."""
    times = ground.size(11, 5)
    yield Figure("python -c pass, for comparison", median([_python() for _ in range(times)]), "ms")
    with daemon(ground, gpus=1) as rised:
        rised.train(rised.project(BLOCKER))
        for size, (a, b) in _SIZES.items():
            number = rised.train(rised.project(queued_set(a, b)))
            took = [rised.timed("status") for _ in range(times)]
            yield Figure(f"status, {size} queued", 1e3 * median(took), "ms", at_most=150)
            took = [rised.timed("status", number) for _ in range(times)]
            yield Figure(f"status {number}, {size} queued", 1e3 * median(took), "ms", at_most=150)
            rised.riseml("kill", "-f", number)


def _python() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return 1e3 * (time.perf_counter() - begun)
