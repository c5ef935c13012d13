"""What `riseml.report_result` adds to a job: the import, and each report."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ground import Ground, median
from benchmarks.table import Figure
from rised.runners.client_package import install_client

_REPORTS = """\
import riseml, time
riseml.report_result(accuracy=.9)
begun = time.perf_counter()
for step in range(1000):
    riseml.report_result(accuracy=.9, loss=.1, step=step)
print(time.perf_counter() - begun)
"""


def measure(ground: Ground) -> Iterator[Figure]:
    """An empty Python beside one that imports riseml, and one that reports once, in turns."""
    directory = ground.make_directory()
    install_client(str(directory / "python"))
    env = {"PYTHONPATH": str(directory / "python"), "OUTPUT_DIR": str(directory)}
    empty, imports, reports = [], [], []
    for _ in range(ground.size(101, 21)):
        empty.append(_took("pass", env, directory))
        imports.append(_took("import riseml", env, directory))
        reports.append(_took("import riseml; riseml.report_result(a=1)", env, directory))
    base = median(empty)
    yield Figure("python -c pass, for comparison", base, "ms")
    yield Figure("import riseml adds", median(imports) - base, "ms", at_most=10)
    yield Figure("import riseml and a first report add", median(reports) - base, "ms")
    timing = subprocess.run(
        [sys.executable, "-c", _REPORTS], env=env, cwd=directory, check=True, stdout=subprocess.PIPE
    )
    yield Figure("each further report", 1000 * float(timing.stdout), "µs")


def _took(code: str, env: dict[str, str], directory: Path) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=env, cwd=directory, check=True)
    return 1e3 * (time.perf_counter() - begun)
