"""What the daemon takes from the machine that is meant for the jobs: memory and CPU."""

from collections.abc import Iterator

from benchmarks.daemon import Daemon, daemon
from benchmarks.ground import Ground
from benchmarks.procfs import memory, usage
from benchmarks.submit import BLOCKER, queued_set
from benchmarks.table import Figure

_RUNNING = 64
_SLEEPERS = """\
parameters:
  n: {{range: {{min: 1, max: {count}, step: 1}}}}
concurrency: {count}
resources: {{cpus: 0, mem: 0}}
run: sleep 100000
"""
_NEARLY_NOTHING = 0.05  # per cent; what is less is shown as 0.0 % by every tool


def measure(ground: Ground) -> Iterator[Figure]:
    """Idle, with a million queued, with many running."""
    seconds = ground.size(5, 2)
    with daemon(ground, gpus=1) as rised:
        idle = memory(rised.pid)
        yield Figure("idle: memory (RSS)", idle.rss, "MB")
        yield Figure("idle: memory (PSS)", idle.pss, "MB")
        yield from _usage("idle", rised, seconds)
        rised.train(rised.project(BLOCKER))
        rised.train(rised.project(queued_set(1000, 1000)))
        more = memory(rised.pid).rss - idle.rss
        yield Figure("a million queued: more RSS than idle", more, "MB", at_most=20)
        yield from _usage("a million queued", rised, seconds)
    with daemon(ground) as rised:
        idle = memory(rised.pid)
        number = rised.train(rised.project(_SLEEPERS.format(count=_RUNNING)))
        rised.wait_until(number, lambda detail: detail.counts.get("RUNNING") == _RUNNING)
        more = memory(rised.pid).rss - idle.rss
        yield Figure(f"{_RUNNING} running: more RSS than idle", more, "MB")
        yield from _usage(f"{_RUNNING} running", rised, seconds)


def _usage(when: str, rised: Daemon, seconds: float) -> Iterator[Figure]:
    # The first second after a request is not yet idleness: worker threads go to sleep.
    usage(rised.pid, 1)
    spent = usage(rised.pid, seconds)
    limit = _NEARLY_NOTHING if when == "idle" else None
    yield Figure(f"{when}: CPU of one core", spent.cpu, "%", at_most=limit)
    yield Figure(f"{when}: wakeups", spent.wakeups, "/s")
