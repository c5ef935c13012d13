"""All at once: many users, jobs of every kind, a daemon that dies, a disk that fills; and at the end the books balance.

Jobs keep books of their own, in which the daemon has no hand: each writes a line as its first act, and holds a lock on
each of its GPUs for as long as anything of it lives.

`make soak MINUTES=10 SEED=7` runs one by hand, as root.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from aftermath import assert_attempts_rise, assert_nothing_is_left, database
from box import Box
from people import User

from riseml_proto.errors import DaemonError
from riseml_proto.messages import Kill, Killed, LogRequest, Summary

_MEBIBYTE = 1 << 20
_MOST_GROWTH = 40
"""MiB by which the daemon may be larger at the end than after its first experiments: what SQLite keeps in memory, and
what the allocator does not give back."""


class Soak:
    """One soak."""

    def __init__(self, box: Box, users: list[User], seed: int) -> None:
        """`box` serves all `users`; its state and output lie on a small disk of their own."""
        self._box = box
        self._users = users
        self._seed = seed
        self._random = random.Random(seed)
        self._deaths: Counter[str] = Counter()
        self._filler = box.state / "filler"

    def run(self, seconds: float) -> dict[str, object]:
        """Soak for so long, then check everything. Returns what happened."""
        locks = self._box.socket.parent / "locks"
        locks.mkdir()
        for gpu in range(4):
            (locks / str(gpu)).touch(mode=0o666)
            (locks / str(gpu)).chmod(0o666)
        locks.chmod(0o755)
        self._box.start()
        with contextlib.ExitStack() as stack:
            workers = [self._worker(stack, user, n) for n, user in enumerate(self._users)]
            followers: list[subprocess.Popen[bytes]] = []
            end = time.monotonic() + seconds
            small = 0
            while time.monotonic() < end:
                time.sleep(self._random.uniform(0.2, 1.5))
                self._disturb(followers)
                small = small or self._resident()
            self._filler.unlink(missing_ok=True)
            for follower in followers:
                follower.kill()
                follower.wait()
            acknowledged = [line.split() for worker in workers for line in self._told(worker)]
        self._come_to_an_end()
        return self._balance(acknowledged, small)

    def _worker(
        self, stack: contextlib.ExitStack, user: User, number: int
    ) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("soak_user.py").read_text()
        argv = [user.python, "-c", script, str(self._box.socket), str(self._seed * 1000 + number)]
        return stack.enter_context(user.popen(*argv))

    @staticmethod
    def _told(worker: subprocess.Popen[str]) -> list[str]:
        told, _ = worker.communicate(timeout=120)
        return told.splitlines()

    def _disturb(self, followers: list[subprocess.Popen[bytes]]) -> None:
        what = self._random.choice(
            ["kill", "stop", "fill", "empty", "follow", "follow", "pause", "unpause", "leave", ""]
        )
        self._deaths[what] += 1
        if what in ("kill", "stop"):
            (self._box.kill_daemon if what == "kill" else self._box.stop)()
            self._box.start()
        elif what == "fill":
            found = os.statvfs(self._box.state)
            size = max(1, found.f_bavail * found.f_frsize - self._random.choice([0, 100_000]))
            with contextlib.suppress(OSError), self._filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        elif what == "empty":
            self._filler.unlink(missing_ok=True)
        elif what == "follow":
            argv = [sys.executable, "-m", "riseml", "logs", "-f", str(self._random.randint(1, 50))]
            followers.append(
                subprocess.Popen(
                    argv,
                    env=self._box.env,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=self._box.root,
                )
            )
        elif followers and what:
            follower = self._random.choice(followers)
            numbers = {"pause": signal.SIGSTOP, "unpause": signal.SIGCONT, "leave": signal.SIGKILL}
            follower.send_signal(numbers[what])

    def _resident(self) -> int:
        assert self._box.daemon is not None
        fields = Path(f"/proc/{self._box.daemon.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") // _MEBIBYTE

    def _come_to_an_end(self) -> None:
        """Kill what has not ended by itself; the answer comes when nothing of it is left."""
        with self._box.client() as client:
            unfinished = client.get("/v1/experiments", list[Summary])
            ids = [summary.id for summary in unfinished]
            if ids:
                client.post("/v1/kill", Kill(ids=ids, force=True), Killed, patient=True)
            for number in ids:
                with contextlib.suppress(DaemonError):
                    list(client.stream("/v1/logs", LogRequest(id=number, follow=True)))

    def _balance(self, acknowledged: list[list[str]], small: int) -> dict[str, object]:
        box = self._box
        assert box.daemon is not None
        descriptors = len(os.listdir(f"/proc/{box.daemon.pid}/fd"))
        grown = self._resident() - small
        system = json.loads(box.run("system", "info", "--json").stdout)
        assert [gpu["used_by"] for gpu in system["gpus"]] == [None] * 4, "a GPU is lost"
        assert (system["cpus"]["used"], system["memory"]["used"]) == (0, 0)
        box.stop()
        assert_nothing_is_left(box)
        assert_attempts_rise(box)
        assert os.listdir(box.state / "containers") == []
        evidence = Counter(
            line
            for user in self._users
            if (user.home / "evidence").exists()
            for line in (user.home / "evidence").read_text().splitlines()
        )
        assert not [line for line in evidence if line.endswith("double")], "a GPU was double-booked"
        with database(box.state) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            states = dict(db.execute("SELECT id, state FROM experiments"))
            # One whose acknowledgement was lost with its daemon is there all the same.
            kinds = dict(db.execute("SELECT id, project FROM experiments"))
            assert {int(told[0]) for told in acknowledged} <= set(states), (
                "an acknowledged experiment is lost"
            )
            assert set(states.values()) <= {"FINISHED", "FAILED", "KILLED"}
            members = db.execute(
                "SELECT experiment, member, state, attempt FROM members"
            ).fetchall()
            counts = db.execute("SELECT id, members, finished + failed + killed FROM experiments")
            assert all(total == ended for _, total, ended in counts), "a member is unaccounted for"
        ended: Counter[str] = Counter()
        for experiment, member, state, _ in members:
            ended[state] += 1
            kind = kinds[experiment]
            begun = evidence[f"{experiment}.{member} begun"]
            assert begun <= (2 if kind == "retry" else 1), (
                f"{experiment}.{member} ran {begun} times"
            )
            if state == "FINISHED":
                assert begun == evidence[f"{experiment}.{member} done"] == 1
        assert descriptors < 60, f"{descriptors} descriptors are open"
        assert grown < _MOST_GROWTH, f"the daemon has grown by {grown} MiB"
        return {
            "seed": self._seed,
            "experiments": len(states),
            "acknowledged": len(acknowledged),
            "sub-experiments": dict(ended),
            "disturbances": dict(self._deaths),
            "descriptors": descriptors,
            "grown by MiB": grown,
        }
