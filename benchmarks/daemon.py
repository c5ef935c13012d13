"""A real `rised` in a directory of its own, and `riseml` against it; nothing of either is left in the end."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.ground import Ground, MeasurementFailed
from benchmarks.procfs import end_processes_of
from riseml.transport.http import Client
from riseml_proto.errors import RisemlError
from riseml_proto.messages import Detail, Kill, Killed, Summary

BIN = Path(sys.executable).parent
PATIENCE = 300.0
"""Seconds after which something that should have happened counts as not happening."""


class Daemon:
    """A daemon, its commands and its environment; see `daemon`."""

    def __init__(self, root: Path, socket: Path, flags: Mapping[str, object]) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.socket = socket
        self._flags = {
            "socket": socket,
            "state_dir": self.state_dir,
            "output_dir": root / "output",
            "data_dir": root / "data",
            "min_free": 0,
            "kill_grace": 1,
            **flags,
        }
        self._log = root / "rised.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._projects = 0
        (root / "home").mkdir()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "RISE"))}
        self.env |= {"HOME": str(root / "home"), "RISEML_HOST": f"unix://{socket}", "LC_ALL": "C"}
        self.env["PATH"] = f"{BIN}:{self.env['PATH']}"

    @property
    def pid(self) -> int:
        """Its process ID."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it; return the seconds from exec until it serves requests."""
        ready, theirs = os.pipe()
        words = [f"--{key.replace('_', '-')}={value}" for key, value in self._flags.items()]
        begun = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rised", *words, f"--ready-fd={theirs}"],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs],
                start_new_session=True,
            )
        os.close(theirs)
        try:
            came = select.select([ready], [], [], PATIENCE)[0] and os.read(ready, 16)
            took = time.perf_counter() - begun
        finally:
            os.close(ready)
        if not came:
            raise MeasurementFailed(f"rised does not come up:\n{self._log_end()}")
        return took

    def crash(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def riseml(self, *argv: str, cwd: Path | None = None) -> str:
        """Run `riseml …`; what it printed."""
        done = subprocess.run(
            [BIN / "riseml", *argv],
            cwd=cwd or self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise MeasurementFailed(f"riseml {' '.join(argv)}: {done.stderr}{self._log_end()}")
        return done.stdout

    def timed(self, *argv: str, cwd: Path | None = None) -> float:
        """Run `riseml …`; the seconds it took."""
        begun = time.perf_counter()
        self.riseml(*argv, cwd=cwd)
        return time.perf_counter() - begun

    def project(self, train: str, **files: str) -> Path:
        """A new project whose riseml.yml has `train` as its section, and `files`."""
        self._projects += 1
        made = self.root / f"project{self._projects}"
        made.mkdir()
        indented = "".join(f"  {line}\n" for line in train.splitlines())
        (made / "riseml.yml").write_text(f"project: bench\ntrain:\n{indented}")
        for name, content in files.items():
            (made / name).write_text(content)
        return made

    def train(self, project: Path) -> str:
        """`riseml train -d` there; the experiment's ID."""
        return str(json.loads(self.riseml("train", "-d", "--json", cwd=project))["id"])

    def follower(self, target: str) -> subprocess.Popen[bytes]:
        """`riseml logs -f` with its output in a pipe, for use in a `with`."""
        return subprocess.Popen(
            [BIN / "riseml", "logs", "-f", target], env=self.env, stdout=subprocess.PIPE
        )

    def client(self) -> Client:
        """A client of it, for use in a `with`."""
        return Client(str(self.socket))

    def wait_until(self, number: str, wanted: Callable[[Detail], bool]) -> Detail:
        """Return what an experiment is like as soon as it is as `wanted`.

        By asking now and then: a follower would be woken for each sub-experiment, and be measured with it.
        """
        begun = time.monotonic()
        with self.client() as client:
            while True:
                detail = client.get(f"/v1/experiments/{number}?limit=1", Detail)
                if wanted(detail):
                    return detail
                if time.monotonic() - begun > PATIENCE:
                    raise MeasurementFailed(f"{number} hangs in {detail.state}:\n{self._log_end()}")
                time.sleep(0.1)

    def wait_for_end(self, number: str) -> Detail:
        """Return what a set is like when all of it has ended, and each sub-experiment has FINISHED."""
        detail = self.wait_until(number, lambda one: one.ended_at is not None)
        if set(detail.counts) != {"FINISHED"}:
            raise MeasurementFailed(f"not all of {number} finished: {detail.counts}")
        return detail

    def _log_end(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])

    def end(self) -> None:
        """End it and all that it started."""
        if self._process and self._process.poll() is None:
            with contextlib.suppress(RisemlError), self.client() as client:
                ids = [summary.id for summary in client.get("/v1/experiments", list[Summary])]
                if ids:
                    client.post("/v1/kill", Kill(ids=ids, force=True), Killed)
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.crash()
        end_processes_of(self.root)


@contextlib.contextmanager
def daemon(ground: Ground, **flags: object) -> Iterator[Daemon]:
    """A daemon that runs; `flags` are rised's, with `_` for `-`."""
    with tempfile.TemporaryDirectory(prefix="rised-") as short:  # a socket's path must be short
        made = Daemon(ground.make_directory(), Path(short, "s"), flags)
        try:
            made.start()
            yield made
        finally:
            made.end()
