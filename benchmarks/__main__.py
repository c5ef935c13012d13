"""The command: measure the groups that were asked for and print their figures as they come.

A missed limit is printed, not punished: machines differ, and the exit code is 0. It is 1 only where something could
not be measured.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    containers,
    crowd,
    follow,
    footprint,
    gap,
    importing,
    restart,
    status,
    submit,
    tensorboard,
    throughput,
)
from benchmarks.disk import cost_of_file, cost_of_flush
from benchmarks.ground import Ground, MeasurementFailed
from benchmarks.table import Figure, show_figure, show_title
from riseml_proto import VERSION

GROUPS: dict[str, tuple[str, Callable[[Ground], Iterator[Figure]]]] = {
    "throughput": ("no-op sub-experiments, 2 at a time", throughput.measure),
    "gap": ("from one job's end to the next one's start, one GPU", gap.measure),
    "submit": ("riseml train -d, the whole command", submit.measure),
    "status": ("riseml status, the whole command", status.measure),
    "follow": ("from a job's write to the follower's screen", follow.measure),
    "crowd": ("riseml status while others are there", crowd.measure),
    "import": ("what riseml.report_result adds to a job", importing.measure),
    "footprint": ("what the daemon needs", footprint.measure),
    "restart": ("from exec until requests are served", restart.measure),
    "containers": ("no-op sub-experiments in containers, and images", containers.measure),
    "tensorboard": ("until a TensorBoard can be reached", tensorboard.measure),
}


def main() -> int:
    """Measure and print."""
    parser = _parser()
    args = parser.parse_args()
    if unknown := set(args.names) - set(GROUPS):
        parser.error(f"there is no {min(unknown)}, only {', '.join(GROUPS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    figures: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="riseml-bench-", dir=args.dir) as directory:
            facts = _facts(Path(directory), quick=args.quick)
            print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
            ground = Ground(Path(directory), quick=args.quick)
            for name in args.names or GROUPS:
                title, measure = GROUPS[name]
                print("\n" + show_title(f"{name}: {title}"), flush=True)
                for figure in measure(ground):
                    print(show_figure(figure), flush=True)
                    figures.append({"group": name, **figure.plain()})
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except MeasurementFailed as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    _conclude(figures)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({**facts, "figures": figures}, file, indent=2)
            file.write("\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    made.add_argument(
        "names", nargs="*", metavar="NAME", help=f"only these: {', '.join(GROUPS)} (all of them)"
    )
    made.add_argument("--quick", action="store_true", help="smaller numbers, for a first look")
    made.add_argument("--json", metavar="FILE", help="write the figures there, too")
    made.add_argument("--dir", metavar="DIR", help="where daemons keep their files while measured")
    return made


def _facts(directory: Path, *, quick: bool) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "riseml": f"{VERSION}, Python {platform.python_version()}, Linux {platform.release()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC") + (" (--quick)" if quick else ""),
        "machine": f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} before",
        "disk": f"a small file is made in {cost_of_file(directory) * 1e6:.0f} µs, "
        f"flushed in {cost_of_flush(directory) * 1e6:.0f} µs",
    }


def _conclude(figures: list[dict[str, Any]]) -> None:
    passed = [figure["passed"] for figure in figures if figure["passed"] is not None]
    print(f"\n{passed.count(True)} of {len(passed)} limits kept")


if __name__ == "__main__":
    sys.exit(main())
