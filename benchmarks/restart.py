"""How long the daemon is away when it is killed and started again."""

from collections.abc import Iterator

from benchmarks import past
from benchmarks.daemon import Daemon, daemon
from benchmarks.ground import Ground, median
from benchmarks.table import Figure


def measure(ground: Ground) -> Iterator[Figure]:
    """A new daemon's, and with a long past; each one before ended by `kill -9`."""
    times, count = ground.size(7, 3), ground.size(100_000, 20_000)
    with daemon(ground) as rised:
        yield Figure("no past", _restart(rised, times), "s")
        rised.crash()
        past.write(rised.state_dir, count)
        rised.start()
        name = f"{count:,} past experiments"
        yield Figure(name, _restart(rised, times), "s", at_most=1)
        took = [rised.timed("status") for _ in range(times)]
        yield Figure(f"riseml status, {name}", 1e3 * median(took), "ms", at_most=150)


def _restart(rised: Daemon, times: int) -> float:
    took = []
    for _ in range(times):
        rised.crash()
        took.append(rised.start())
    return median(took)
