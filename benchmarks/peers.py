"""What stands beside riseml: `xargs -P`, and task-spooler (`tsp`) where it is installed.

Neither does for a job what riseml does: no working copy, no output directory, no configuration file, no times per line,
nothing that a crash must not lose. They show what the machine can do.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.procfs import end_processes_of

# $1 jobs; the rest is the command. Run as a person would: one client for each job.
_SUBMIT = 'count=$1; shift; for i in $(seq "$count"); do tsp "$@" >/dev/null || exit 1; done'


def xargs(count: int, slots: int, *command: str) -> float:
    """Seconds for `command`, `count` times, `slots` at a time."""
    lines = "".join(f"{number}\n" for number in range(count)).encode()
    begun = time.perf_counter()
    subprocess.run(["xargs", f"-P{slots}", "-I{}", *command], input=lines, check=True)
    return time.perf_counter() - begun


def has_task_spooler() -> bool:
    """Whether `tsp` is here."""
    return shutil.which("tsp") is not None


@contextlib.contextmanager
def task_spooler(slots: int) -> Iterator["TaskSpooler"]:
    """A task-spooler server of our own."""
    with tempfile.TemporaryDirectory(prefix="tsp-") as directory:
        env = {**os.environ, "TS_SOCKET": f"{directory}/s", "TMPDIR": directory}
        env["TS_SLOTS"] = str(slots)
        try:
            yield TaskSpooler(Path(directory), env, slots)
        finally:
            subprocess.run(["tsp", "-K"], env=env, check=False)
            end_processes_of(Path(directory))


class TaskSpooler:
    """A queue."""

    def __init__(self, directory: Path, env: dict[str, str], slots: int) -> None:
        self._directory = directory
        self._env = env
        self._slots = slots
        self._last = -1

    def run(self, count: int, *command: str) -> float:
        """Seconds for `command`, `count` times, from the first submission to the last end."""
        begun = time.perf_counter()
        self._submit(count, command)
        self._wait()
        return time.perf_counter() - begun

    def run_queued(self, count: int, *command: str) -> None:
        """The same, but nothing starts before all are queued."""
        gate = self._directory / "gate"
        os.mkfifo(gate)
        self._submit(1, ("sh", "-c", f'read -r line <"{gate}"'))
        self._submit(count, command)
        gate.write_text("go\n")
        self._wait()
        gate.unlink()

    def _submit(self, count: int, command: Sequence[str]) -> None:
        argv = ["sh", "-c", _SUBMIT, "sh", str(count), *command]
        subprocess.run(argv, env=self._env, check=True)

        self._last += count

    def _wait(self) -> None:
        """Return when the last jobs have ended, as many as may run at once."""
        for number in range(max(0, self._last - self._slots + 1), self._last + 1):
            # The exit code is the job's own.
            argv = ["tsp", "-w", str(number)]
            subprocess.run(argv, env=self._env, stdout=subprocess.DEVNULL, check=False)
