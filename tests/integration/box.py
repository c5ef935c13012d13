"""A real `rised` in a directory of its own, real commands against it, and a look at what is left in the end.

The processes of a box are those whose environment or command line names its directory, as every job's does.
"""

import contextlib
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from riseml.follow import entries
from riseml.transport.http import Client
from riseml_proto.messages import Entry, LogRequest
from riseml_proto.states import State

BIN = Path(sys.executable).parent
PATIENCE = 60.0
"""Seconds after which something that should have happened counts as not happening."""


def need(condition: bool, what: str) -> None:
    """Skip a test where the machine lacks `what`; where nothing may be lacking, fail."""
    if condition:
        return
    if os.environ.get("RISEML_TEST_SKIPS") == "fail":
        pytest.fail(f"this machine has no {what}, and here no test may be skipped")
    pytest.skip(f"needs {what}")


class Box:
    """A daemon's places, and the daemon while one runs."""

    def __init__(self, root: Path, **flags: object) -> None:
        """`flags` are rised's, with `_` for `-`; `gpus=4` is `--gpus 4`."""
        self.root = root
        self.state, self.output, self.data = root / "state", root / "output", root / "data"
        # A Unix socket's path must be short, and pytest's directories are not.
        self._short = Path("/tmp") / f"riseml-box-{os.getpid()}-{abs(hash(root)) % 10**8}"
        self.socket = self._short / "s"
        self.flags = {"kill_grace": 1, "min_free": 0, **flags}
        self.daemon: subprocess.Popen[bytes] | None = None
        self.log = root / "rised.log"
        self.prefix: list[str] = []
        """Words in front of the daemon's command line."""

    @property
    def env(self) -> dict[str, str]:
        """The environment of everything in the box."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "RISE"))}
        home = self.root / "home"
        home.mkdir(exist_ok=True)
        return {
            **base,
            "PATH": f"{BIN}:{base['PATH']}",
            "HOME": str(home),
            "RISEML_HOST": f"unix://{self.socket}",
        }

    def argv(self) -> list[str]:
        """The daemon's command line."""
        flags = {
            "socket": self.socket,
            "state_dir": self.state,
            "output_dir": self.output,
            "data_dir": self.data,
            **self.flags,
        }
        words = [*self.prefix, sys.executable, "-m", "rised"]
        for key, value in flags.items():
            words += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
        return words

    def start(self, *, crash_at: str | None = None, env: Mapping[str, str] | None = None) -> None:
        """Start the daemon and return when it serves requests, or has died at the crash point `crash_at`."""
        self._short.mkdir(mode=0o700, exist_ok=True)
        ready, theirs = os.pipe()
        more = {"RISED_CRASH_AT": crash_at} if crash_at else {}
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [*self.argv(), "--ready-fd", str(theirs)],
                env={**self.env, **(env or {}), **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs],
                start_new_session=True,
            )
        os.close(theirs)
        try:
            assert select.select([ready], [], [], PATIENCE)[0], "the daemon does not come up"
            came = os.read(ready, 16)
        finally:
            os.close(ready)
        assert came or crash_at, self.log.read_text()

    def kill_daemon(self) -> None:
        """As `kill -9` does."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def wait_for_crash(self) -> None:
        """Return when the daemon has died at its crash point."""
        assert self.daemon is not None
        assert self.daemon.wait(PATIENCE) == -signal.SIGKILL, self.log.read_text()

    def stop(self) -> None:
        """As systemd does: SIGTERM, and it has to end cleanly."""
        assert self.daemon is not None
        self.daemon.terminate()
        assert self.daemon.wait(PATIENCE) == 0, self.log.read_text()

    def run(
        self, *argv: str, cwd: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `riseml …` and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "riseml", *argv],
            cwd=cwd or self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.log.read_text()
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *argv: str) -> object:
        """Run `riseml … --json` and return what it printed."""
        return json.loads(self.run(*argv, "--json").stdout)

    def project(self, text: str, **files: str) -> Path:
        """A directory with `text` as its riseml.yml, and `files`."""
        made = self.root / "project"
        made.mkdir(exist_ok=True)
        (made / "riseml.yml").write_text(text)
        for name, content in files.items():
            (made / name).write_text(content)
        return made

    def train(self, text: str, **files: str) -> str:
        """`riseml train -d` of a project with `text` as its riseml.yml; returns the experiment's ID."""
        done = self.run("train", "-d", "--json", cwd=self.project(text, **files))
        return str(json.loads(done.stdout)["id"])

    def client(self) -> Client:
        """A client of the daemon, for use in a `with`."""
        return Client(str(self.socket))

    def entries(self, target: str, **request: object) -> Iterator[Entry]:
        """What a follower of `target` is told, to its end; it comes back after a restart of the daemon."""
        asked = LogRequest(id=target, follow=True, **request)  # type: ignore[arg-type]
        return (entry for _, entry in entries(self._connect, asked, lambda _: None))

    @contextlib.contextmanager
    def _connect(self) -> Iterator[Client]:
        with self.client() as client:
            client.connect()
            yield client

    def wait(self, target: str, wanted: Callable[[Entry], bool]) -> Entry:
        """Follow `target` until an entry is as `wanted`."""
        for entry in self.entries(target):
            if wanted(entry):
                return entry
        raise AssertionError(f"{target} ended first; {self.log.read_text()}")

    def wait_for_line(self, target: str, text: str) -> None:
        """Follow `target` until a line of its output is `text`."""
        self.wait(target, lambda entry: getattr(entry, "text", None) == text)

    def wait_for_end(self, target: str) -> State:
        """Follow `target` to its end; returns its last state."""
        *_, last = self.entries(target)
        return last.state  # type: ignore[union-attr]

    def processes(self) -> dict[int, str]:
        """Every living process of the box, the daemon left out: pid → command line."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or (self.daemon and int(name) == self.daemon.pid):
                continue
            with contextlib.suppress(OSError):
                place = Path("/proc", name)
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
                command = (place / "cmdline").read_bytes()
                ours = str(self.root).encode() in (place / "environ").read_bytes() + command
                if ours and state not in "ZX":
                    found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def close(self) -> None:
        """End everything, and make sure that a clean daemon leaves nothing behind but what it should."""
        if self.daemon and self.daemon.poll() is None:
            self.stop()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._remove_cgroups()
        subprocess.run(["rm", "-rf", str(self._short)], check=True)

    def _remove_cgroups(self) -> None:
        """Jobs that were to run on had groups, which only the next daemon would have removed."""
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._database()) as database:
            query = "SELECT value FROM meta WHERE name = 'instance'"
            groups = {f"rised-{instance}" for (instance,) in database.execute(query)}
            mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
            for place in (mount[1] for mount in mounts if mount[2] == "cgroup2"):
                # Others' groups come and go meanwhile, which `os.walk` ignores.
                for directory, _, _ in os.walk(place, topdown=False):
                    if {*Path(directory).parts} & groups:
                        with contextlib.suppress(OSError):
                            os.rmdir(directory)

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.state}/rised.db?mode=ro&immutable=1", uri=True)
