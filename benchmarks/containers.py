"""What a container costs through riseml and through the engine's own command, and what a build costs that was done.

`docker run` does for a job what riseml lets the engine do: a container of the same image with an init, attached to the
same network, removed in the end. It gives it no files, no output directory and no log on the disk.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peers
from benchmarks.daemon import PATIENCE, Daemon, daemon
from benchmarks.ground import Ground, MeasurementFailed, median
from benchmarks.table import Figure

_IMAGE = "riseml-bench/busybox:latest"
_MAKE_IMAGE = Path(__file__).parents[1] / "scripts" / "make-image"
_DOCKER_RUN = ("docker", "run", "--rm", "--init", "--network", "default", _IMAGE, "true")
_SET = f"""\
image: {_IMAGE}
parameters:
  n: {{{{range: {{{{min: 1, max: {{count}}, step: 1}}}}}}}}
concurrency: {{slots}}
resources: {{{{cpus: 0, mem: 0}}}}
run: 'true'
"""
_BUILT = f"image:\n  name: {_IMAGE}\n  install: [echo built >/built]\nrun: cat /built\n"


def measure(ground: Ground) -> Iterator[Figure]:
    """No-op jobs one and four at a time, in turns with `docker run`; a second `riseml train`."""
    if lack := _lack():
        yield Figure(f"needs {lack}", None, "")
        return
    with _image(), daemon(ground) as rised:
        yield from _jobs(rised, ground)
        yield from _cached_build(rised, ground.size(7, 3))


def _jobs(rised: Daemon, ground: Ground) -> Iterator[Figure]:
    count, rounds = ground.size(40, 12), ground.size(3, 2)
    _run(rised, 4, 4)
    peers.xargs(4, 4, *_QUIET, *_DOCKER_RUN)
    for slots in (1, 4):
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_run(rised, count, slots))
            theirs.append(peers.xargs(count, slots, *_QUIET, *_DOCKER_RUN) / count)
        yield Figure(f"riseml, concurrency {slots}: per job", 1e3 * median(ours), "ms")
        yield Figure(f"docker run, xargs -P{slots}: per job", 1e3 * median(theirs), "ms")
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        yield Figure(f"riseml : docker run, {slots} at a time", median(ratios), "x", at_most=1.1)


# xargs -I would put each number into the command; sh takes it as its name.
_QUIET = ("sh", "-c", 'exec "$@" >/dev/null', "{}")


def _run(rised: Daemon, count: int, slots: int) -> float:
    """Seconds per job, from the set's acceptance to its end."""
    detail = rised.wait_for_end(rised.train(rised.project(_SET.format(count=count, slots=slots))))
    assert detail.ended_at is not None
    return (detail.ended_at - detail.created_at).total_seconds() / count


def _cached_build(rised: Daemon, times: int) -> Iterator[Figure]:
    project = rised.project(_BUILT)
    first = _until(rised, project, "STARTING")
    took = [_until(rised, project, "STARTING") for _ in range(times)]
    yield Figure("riseml train until STARTING, image to be built", first, "s")
    yield Figure("riseml train until STARTING, image built", median(took), "s", at_most=0.5)


def _until(rised: Daemon, project: Path, state: str) -> float:
    """Seconds from `riseml train` until it says that the experiment is in `state`; it has finished then."""
    argv = ["riseml", "train"]
    begun, took = time.perf_counter(), None
    with subprocess.Popen(
        argv, cwd=project, env=rised.env, stdout=subprocess.PIPE, text=True
    ) as train:
        assert train.stdout is not None
        for line in train.stdout:
            if took is None and line.rstrip().endswith(f"--> {state}"):
                took = time.perf_counter() - begun
    if took is None or train.returncode:
        raise MeasurementFailed(f"an experiment in an image ended with {train.returncode}")
    return took


def _lack() -> str | None:
    if shutil.which("docker") is None or shutil.which("busybox") is None:
        return "docker and busybox"
    version = subprocess.run(
        ["docker", "version"], capture_output=True, timeout=PATIENCE, check=False
    )
    return "a container engine that answers" if version.returncode else None


@contextlib.contextmanager
def _image() -> Iterator[None]:
    """`_IMAGE`, and in the end neither it nor what was built of it."""
    subprocess.run([_MAKE_IMAGE, "--busybox", _IMAGE], stdout=subprocess.DEVNULL, check=True)
    try:
        yield
    finally:
        listed = ["docker", "images", "--quiet", "--filter", f"label=riseml.base={_IMAGE}"]
        built = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        argv = ["docker", "rmi", "--force", *sorted(set(built)), _IMAGE]
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
