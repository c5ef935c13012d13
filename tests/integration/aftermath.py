"""What must hold when all is over, whatever happened on the way, and the ways to get there."""

import contextlib
import os
import select
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from box import PATIENCE, Box

from riseml_proto.errors import DaemonError
from riseml_proto.messages import Entry, LineEntry, LogRequest

CGROUPS = "/sys/fs/cgroup"


def assert_nothing_is_left(box: Box) -> None:
    """No process, working directory, pristine tree or control group; the daemon must have been stopped."""
    assert box.daemon is not None
    assert box.daemon.poll() is not None
    assert box.processes() == {}
    assert_state_is_clean(box.state)


def assert_state_is_clean(state: Path) -> None:
    """No working directory, pristine tree or control group; the daemon must have been stopped."""
    assert os.listdir(state / "work") == []
    assert [path for path in state.glob("trees/*/*/*") if not path.name.startswith(".")] == []
    groups = (path for path, _, _ in os.walk(CGROUPS))
    assert [path for path in groups if path.endswith(f"/rised-{instance(state)}")] == []


def assert_attempts_rise(box: Box) -> None:
    """Each start has a number that no earlier one of its job had; the daemon must have been stopped."""
    last: Counter[tuple[int, int]] = Counter()
    with database(box.state) as db:
        events = db.execute("SELECT experiment, member, state, attempt FROM events ORDER BY seq")
        for experiment, member, state, attempt in events:
            if state == "STARTING" and (member or attempt):  # a set has no attempts
                assert attempt > last[experiment, member]
            assert attempt == 0 or attempt >= last[experiment, member]
            last[experiment, member] = max(attempt, last[experiment, member])


def instance(state: Path) -> str:
    """The name of the daemon's state; the daemon must have been stopped."""
    with database(state) as db:
        (found,) = db.execute("SELECT value FROM meta WHERE name = 'instance'").fetchone()
    return str(found)


def output(entries: list[Entry]) -> dict[str, list[str]]:
    """Job → lines, of all its attempts in turn."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry, LineEntry):
            found.setdefault(entry.job, []).append(entry.text)
    return found


def ran(box: Box) -> list[str]:
    """Which sub-experiments ran their command, each time they did, in order of their numbers."""
    path = box.root / "ran"
    return sorted(path.read_text().split()) if path.exists() else []


def watch(box: Box, target: str) -> None:
    """Return when `target` has ended, or the daemon died."""
    try:
        with box.client() as client:
            list(client.stream("/v1/logs", LogRequest(id=target, follow=True)))
    except DaemonError:
        pass


def end_daemon(box: Box) -> bool:
    """End the daemon if it lives; whether it had died, or dies now, at its crash point."""
    assert box.daemon is not None
    box.daemon.terminate()
    code = box.daemon.wait()
    assert code in (0, -signal.SIGKILL), box.log.read_text()
    return code != 0


@contextlib.contextmanager
def database(state: Path) -> Iterator[sqlite3.Connection]:
    """The daemon's database, while no daemon runs; what is written is committed in the end."""
    db = sqlite3.connect(state / "rised.db")
    with contextlib.closing(db), db:
        yield db


def wait_until_gone(pids: Iterable[int]) -> None:
    """Return when these processes have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                assert select.select([fd], [], [], PATIENCE)[0], f"{pid} does not end"
            finally:
                os.close(fd)


def shells(box: Box, *targets: str) -> list[int]:
    """The pids of the shells of the jobs of `targets`, children of the daemon."""
    assert box.daemon is not None
    found = {}
    for pid in box.processes():
        place = Path("/proc", str(pid))
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == box.daemon.pid and b"_riseml_exit" in (place / "cmdline").read_bytes():
                variables = (place / "environ").read_text().split("\0")
                found[dict(v.split("=", 1) for v in variables if v)["EXPERIMENT_ID"]] = pid
    return [found[target] for target in targets]


class Gate:
    """A file that jobs read: nothing comes until it is opened, and then its end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR)

    def open(self) -> None:
        """Let everybody through, now and later."""
        opened = self.path.with_suffix(".opened")
        opened.touch()
        opened.rename(self.path)
        os.close(self._fd)


def refused(box: Box) -> str:
    """What a daemon says that will not start."""
    done = subprocess.run(
        box.argv(), env=box.env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr
