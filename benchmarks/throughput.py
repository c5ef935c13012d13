"""Many sub-experiments that do nothing: what the daemon itself costs for each."""

from collections.abc import Iterator

from benchmarks import peers
from benchmarks.daemon import Daemon, daemon
from benchmarks.disk import cost_of_file
from benchmarks.ground import Ground, median
from benchmarks.procfs import cpu_seconds
from benchmarks.table import Figure

_SET = """\
parameters:
  n: {{range: {{min: 1, max: {count}, step: 1}}}}
concurrency: 2
resources: {{cpus: 0, mem: 0}}
run: 'true'
"""


def measure(ground: Ground) -> Iterator[Figure]:
    """Jobs per second of riseml and its peers, in turns; ratios are of the same turn."""
    count, rounds = ground.size(1000, 200), ground.size(3, 2)
    ours, xargs, tsp, busy = [], [], [], []
    with daemon(ground) as rised:
        _run(rised, 20)
        for _ in range(rounds):
            before = cpu_seconds(rised.pid)
            ours.append(_run(rised, count))
            busy.append(cpu_seconds(rised.pid) - before)
            xargs.append(count / peers.xargs(count, 2, "true"))
            if peers.has_task_spooler():
                with peers.task_spooler(2) as spooler:
                    tsp.append(count / spooler.run(count, "true"))
        files = cost_of_file(rised.root)
    yield Figure(f"riseml, {count:,} jobs", median(ours), "/s")
    yield Figure("xargs -P2", median(xargs), "/s")
    yield Figure("tsp -S 2", median(tsp) if tsp else None, "/s")
    yield Figure("riseml : xargs", _ratio(ours, xargs), "%", at_least=25)
    yield Figure("tsp : xargs", _ratio(tsp, xargs), "%")
    yield Figure("a small file, made on that disk just then", 1e3 * files, "ms")
    yield Figure("daemon's own CPU time per job", median(busy) / count * 1e3, "ms")


def _run(rised: Daemon, count: int) -> float:
    """Jobs per second, from the set's acceptance to its end."""
    detail = rised.wait_for_end(rised.train(rised.project(_SET.format(count=count))))
    assert detail.ended_at is not None
    return count / (detail.ended_at - detail.created_at).total_seconds()


def _ratio(some: list[float], others: list[float]) -> float | None:
    """The median of their ratios, in per cent."""
    if not some:
        return None
    return 100 * median([one / other for one, other in zip(some, others, strict=True)])
