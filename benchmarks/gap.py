"""How long a GPU lies idle between two jobs that wait for it.

Each job is a bash that writes the time when it begins and when it ends. The start and exit of bash itself (1 to 2 ms)
lie in the gap, with the peers as with riseml. Between the two it sleeps: not at all, or for a while, which is nearer to
life, and not the same: some things are quicker the second time within a few milliseconds.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.daemon import Daemon, daemon
from benchmarks.ground import Ground, MeasurementFailed, median, p95
from benchmarks.table import Figure

_STAMP = """\
echo $EPOCHREALTIME >>"$1"
[ "$2" = 0 ] || sleep "$2"
echo $EPOCHREALTIME >>"$1"
"""
_SET = """\
parameters:
  n: {{range: {{min: 1, max: {count}, step: 1}}}}
concurrency: 4
resources: {{cpus: 0, mem: 0, gpus: 1}}
run: bash stamp {times} {seconds}
"""


def measure(ground: Ground) -> Iterator[Figure]:
    """Gaps of riseml and its peers, in turns."""
    directory = ground.make_directory()
    with daemon(ground, gpus=1) as rised:
        for seconds, count in (0.0, ground.size(150, 50)), (0.2, ground.size(30, 10)):
            yield from _measure(rised, directory, seconds, count, rounds=ground.size(2, 1))


def _measure(
    rised: Daemon, directory: Path, seconds: float, count: int, rounds: int
) -> Iterator[Figure]:
    stamp, times = directory / "stamp", directory / "times"
    stamp.write_text(_STAMP)
    command = "bash", str(stamp), str(times), f"{seconds:g}"

    def riseml() -> None:
        text = _SET.format(count=count, times=times, seconds=f"{seconds:g}")
        rised.wait_for_end(rised.train(rised.project(text, stamp=_STAMP)))

    def xargs() -> None:
        peers.xargs(count, 1, *command)

    def tsp() -> None:
        with peers.task_spooler(1) as spooler:
            spooler.run_queued(count, *command)

    runs: dict[str, Callable[[], None]] = {"riseml": riseml, "xargs -P1": xargs}
    if peers.has_task_spooler():
        runs["tsp -S 1"] = tsp
    gaps: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            gaps[name] += _gaps(times, count)
    yield Figure(f"riseml, jobs of {seconds:g} s: median", median(gaps["riseml"]), "ms", at_most=5)
    yield Figure("95 in 100 within", p95(gaps["riseml"]), "ms")
    for name in ("xargs -P1", "tsp -S 1"):
        yield Figure(f"{name}: median", median(gaps[name]) if name in gaps else None, "ms")


def _gaps(times: Path, count: int) -> list[float]:
    """Milliseconds from each end to the next start; the file is removed."""
    stamps = [float(line.replace(",", ".")) for line in times.read_text().split()]
    times.unlink()
    if len(stamps) != 2 * count:
        raise MeasurementFailed(f"{len(stamps) // 2} of {count} jobs wrote their times")
    ends, starts = stamps[1:-1:2], stamps[2::2]
    return [1e3 * (start - end) for end, start in zip(ends, starts, strict=True)]
