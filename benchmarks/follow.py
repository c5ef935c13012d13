"""How old a line is when it comes out of `riseml logs -f`.

The job writes the monotonic clock's time, line by line; the reader of the pipe looks at the same clock.
"""

import os
import time
from collections.abc import Iterator

from benchmarks.daemon import daemon
from benchmarks.ground import Ground, MeasurementFailed, median, p95
from benchmarks.table import Figure

_TICKER = """\
import sys, time
print("ready", flush=True)
open(sys.argv[1]).read()
for _ in range(int(sys.argv[2])):
    print(time.monotonic_ns(), flush=True)
    time.sleep(0.01)
"""


def measure(ground: Ground) -> Iterator[Figure]:
    """One follower of one job."""
    count = ground.size(500, 150)
    with daemon(ground) as rised:
        gate = rised.root / "gate"
        os.mkfifo(gate)
        project = rised.project(f"run: python ticker.py {gate} {count}", **{"ticker.py": _TICKER})
        ages = []
        with rised.follower(rised.train(project)) as follower:
            assert follower.stdout is not None
            for line in follower.stdout:
                now, text = time.monotonic_ns(), line.split()[-1]
                if text == b"ready":
                    gate.write_text("")
                elif text.isdigit() and len(text) > 6:
                    ages.append((now - int(text)) / 1e6)
    if len(ages) != count:
        raise MeasurementFailed(f"{len(ages)} of {count} lines came out of riseml logs -f")
    yield Figure(f"{count} lines: median", median(ages), "ms", at_most=20)
    yield Figure("95 in 100 within", p95(ages), "ms", at_most=20)
