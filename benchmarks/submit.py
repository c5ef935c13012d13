"""How long `riseml train -d` takes, with the client's own start, the sync and the flush to disk."""

from collections.abc import Iterator

from benchmarks.daemon import Daemon, daemon
from benchmarks.ground import Ground, median
from benchmarks.table import Figure

BLOCKER = "resources: {cpus: 0, mem: 0, gpus: 1}\nrun: sleep 100000\n"
"""Holds the only GPU, so that what comes after it waits."""
_SET = """\
parameters:
  a: {{range: {{min: 1, max: {a}, step: 1}}}}
  b: {{range: {{min: 1, max: {b}, step: 1}}}}
concurrency: 2
resources: {{cpus: 0, mem: 0, gpus: 1}}
run: echo {{{{a}}}} {{{{b}}}}
"""


def queued_set(a: int, b: int) -> str:
    """A set with `a` times `b` sub-experiments that want a GPU."""
    return _SET.format(a=a, b=b)


def measure(ground: Ground) -> Iterator[Figure]:
    """8 and 1,000,000 combinations."""
    times = ground.size(5, 3)
    with daemon(ground, gpus=1) as rised:
        rised.train(rised.project(BLOCKER))
        yield Figure("8 combinations", _submit(rised, 2, 4, times), "s")
        yield Figure("1,000,000 combinations", _submit(rised, 1000, 1000, times), "s", at_most=1)


def _submit(rised: Daemon, a: int, b: int, times: int) -> float:
    took = []
    for _ in range(times):
        project = rised.project(queued_set(a, b))
        took.append(rised.timed("train", "-d", cwd=project))
        rised.riseml("kill", "-f", cwd=project)
    return median(took)
