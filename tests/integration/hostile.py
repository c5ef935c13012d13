"""A box whose daemon is used for many short experiments in turn, and the means to see what each of them left behind."""

import ctypes
import itertools
import json
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from box import PATIENCE, Box, need

from riseml_proto.messages import (
    Detail,
    Entry,
    Kill,
    Killed,
    LineEntry,
    Member,
    StateEntry,
    Submission,
    Submitted,
    System,
)
from riseml_proto.states import State

_IN_DELETE = 0x200
_IN_MOVED_FROM = 0x40
_NO_CGROUP = 'umount -a -t cgroup2 2> /dev/null; exec "$@"'
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


class Stage(Box):
    """A box with one revision, so that an experiment costs one request."""

    def __init__(self, root: Path, *, isolation: str | None = None, **flags: object) -> None:
        """`isolation` is `cgroup`, `session` (the daemon finds no control groups to use) or what there is."""
        super().__init__(root, **flags)
        self.isolation = isolation
        self.revision = ""

    def argv(self) -> list[str]:
        """The daemon's command line, behind one that takes the control groups away from it."""
        if self.isolation == "session" and os.getuid() == 0:
            return ["unshare", "--mount", "sh", "-c", _NO_CGROUP, "sh", *super().argv()]
        return super().argv()

    def begin(self) -> None:
        """Start the daemon and sync the project."""
        self.start()
        if self.isolation:
            there = self.system().isolation == self.isolation
            need(there, f"way to run the daemon with {self.isolation} isolation")
        text = "project: p\ntrain:\n  run: 'true'\n"
        number = self.train(text)
        self.revision = self.detail(number).revision

    def system(self) -> System:
        """What `riseml system info` tells."""
        with self.client() as client:
            return client.get("/v1/system", System)

    def detail(self, number: str) -> Detail:
        """What `riseml status NUMBER` tells."""
        with self.client() as client:
            return client.get(f"/v1/experiments/{number}", Detail)

    def member(self, number: str, member: int = 0) -> Member:
        """One member of an experiment."""
        return self.detail(number).experiments[max(0, member - 1)]

    def submit(self, *commands: str, **train: object) -> str:
        """Start an experiment with these commands; returns its ID."""
        given = {"run": list(commands), **train}
        text = json.dumps({"project": "p", "train": given}, ensure_ascii=False)
        with self.client() as client:
            asked = Submission(
                config=text, revision=self.revision, env={"PATH": os.environ["PATH"]}
            )
            return client.post("/v1/experiments", asked, Submitted).id

    def kill(self, *targets: str, force: bool = False) -> Killed:
        """Kill them and wait until nothing of them is left."""
        with self.client() as client:
            asked = Kill(ids=list(targets), force=force)
            return client.post("/v1/kill", asked, Killed, patient=True)

    def wait_for_state(self, number: str, state: State) -> None:
        """Follow it until it, or what it belongs to, is in this state."""
        self.wait(
            number, lambda e: isinstance(e, StateEntry) and (e.id, e.state) == (number, state)
        )

    def follow(self, number: str) -> list[Entry]:
        """Everything that happens to it, from its beginning to its end, however late the follower comes."""
        return list(self.entries(number, opening=True))

    def lines(self, number: str) -> list[str]:
        """All lines of output, to the end."""
        return [e.text for e in self.entries(number) if isinstance(e, LineEntry)]

    def pids(self, mark: str) -> list[int]:
        """Living processes with `mark` in their command line, in whatever environment."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path("/proc", name, "cmdline").read_bytes()  # a zombie's is empty
            except OSError:
                continue
            if mark.encode() in command and int(name) != os.getpid():
                found.append(int(name))
        return found

    def assert_clean(self, mark: str) -> None:
        """Nothing of what was run is left, all is free again, and the daemon lives."""
        assert self.pids(mark) == []
        assert self.processes() == {}
        system = self.system()
        assert [gpu.used_by for gpu in system.gpus] == [None] * len(system.gpus)
        assert (system.cpus.used, system.memory.used) == (0, 0)
        wait_until_empty(self.state / "work")
        for group in self.groups():
            assert [entry.name for entry in os.scandir(group) if entry.is_dir()] == []

    def groups(self) -> list[Path]:
        """The daemon's control groups."""
        with open("/proc/self/mounts", encoding="utf-8") as file:
            mounts = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
        assert self.daemon is not None
        own = Path(f"/proc/{self.daemon.pid}/cgroup").read_text()
        below = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "")
        name = f"rised-{self.instance()}"
        places = (Path(mount + below.rstrip("/"), name) for mount in mounts)
        return [place for place in places if place.is_dir()]

    def instance(self) -> str:
        """The name of the daemon's state, from the mark that each of its jobs has."""
        if not hasattr(self, "_instance"):
            number = self.submit("echo $RISEML_JOB")
            self._instance = self.lines(number)[0].partition("/")[0]
        return self._instance

    def alive(self) -> bool:
        """Whether the daemon is still the one that was started."""
        return self.daemon is not None and self.daemon.poll() is None


def mark() -> str:
    """A number of seconds for `sleep` that no other process on this machine uses."""
    return f"9{os.getpid()}.{next(_numbers)}"


def wait_until_empty(directory: Path) -> None:
    """Return when nothing is in `directory` any more."""
    with _notified(directory) as fd:
        while os.listdir(directory):
            assert select.select([fd], [], [], PATIENCE)[0], f"left: {os.listdir(directory)}"
            os.read(fd, 65536)


@contextmanager
def _notified(directory: Path) -> Iterator[int]:
    fd = _libc.inotify_init1(os.O_CLOEXEC)
    try:
        added = _libc.inotify_add_watch(fd, os.fsencode(directory), _IN_DELETE | _IN_MOVED_FROM)
        assert added >= 0
        yield fd
    finally:
        os.close(fd)


def ends(entries: list[Entry]) -> list[StateEntry]:
    """The states in which something ended."""
    return [e for e in entries if isinstance(e, StateEntry) and e.state.ended]
