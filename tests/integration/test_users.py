"""Nobody reads, kills or writes what is another user's, and the kernel says who is who."""

import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from box import PATIENCE, Box, need

import riseml
import riseml_proto
from riseml_proto.places import SYSTEM_SOCKET

# What makes `import riseml` work without its being installed.
MODULES = ":".join(
    {
        os.path.dirname(os.path.dirname(module.__file__ or ""))
        for module in (riseml, riseml_proto, msgspec)
    }
)
# Prints each of the given paths that can be read, listed or written to.
TRY_ALL = """
import os, sys
for path in sys.argv[1:]:
    for act in (os.listdir, lambda p: open(p), lambda p: open(p, "a"), lambda p: open(p + "/new", "w")):
        try:
            act(path)
            print(path)
        except (NotADirectoryError, IsADirectoryError, PermissionError):
            pass
"""
SLEEP = "project: a\ntrain: {run: 'echo secret; exec sleep 1000'}\n"


class User:
    """Another person with an account and a home of their own."""

    def __init__(self, name: str, home: Path) -> None:
        subprocess.run(["useradd", "--no-create-home", "--home-dir", home, name], check=True)
        found = pwd.getpwnam(name)
        self.name, self.uid, self.gid = name, found.pw_uid, found.pw_gid
        self.home = home
        home.mkdir(mode=0o700)
        os.chown(home, self.uid, self.gid)
        self.place = Path(f"/tmp/rised-{self.uid}")

    @functools.cached_property
    def python(self) -> str:
        """A Python with riseml in it that this user may run: ours may lie where only root can go."""
        for path in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"):
            with contextlib.suppress(OSError):
                if self.run(path, "-c", "import riseml, rised, msgspec, trio").returncode == 0:
                    return path
        need(False, "Python and riseml where another user can run them")
        raise AssertionError

    def run(self, *argv: str, host: str = "") -> subprocess.CompletedProcess[str]:
        """Run `argv` as this user, in a fresh login's environment."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": MODULES}
        if host:
            env["RISEML_HOST"] = host
        return subprocess.run(
            argv,
            cwd=self.home,
            env=env,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def riseml(self, *argv: str, host: str = "") -> subprocess.CompletedProcess[str]:
        done = self.run(self.python, "-m", "riseml", *argv, host=host)
        assert "Traceback" not in done.stderr
        return done

    def close(self) -> None:
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                theirs = os.stat(f"/proc/{name}").st_uid == self.uid
                fd = os.pidfd_open(int(name)) if theirs else -1
            except OSError:
                continue
            if fd >= 0:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                os.close(fd)
        subprocess.run(["userdel", "--force", self.name], check=False, capture_output=True)
        if self.place.is_symlink():
            self.place.unlink()
        elif self.place.exists():
            shutil.rmtree(self.place)


@pytest.fixture
def users() -> Iterator[Callable[[], User]]:
    """Makes users who are gone when the test is over."""
    need(os.getuid() == 0 and shutil.which("useradd") is not None, "root, to make users")
    made: list[User] = []
    # Above pytest's own directories there is one that only root may enter.
    root = Path(tempfile.mkdtemp(prefix="riseml-users-"))
    root.chmod(0o755)

    def make() -> User:
        name = f"riseml-{os.getpid() % 10**6}-{len(made)}"
        made.append(User(name, root / str(len(made))))
        return made[-1]

    yield make
    for user in made:
        user.close()
    shutil.rmtree(root)


def test_another_user_cannot_reach_the_daemon_or_read_what_it_keeps(
    box: Box, users: Callable[[], User]
) -> None:
    paul = users()
    for path in (box.root, *box.root.parents):
        if path != Path("/tmp") and path != Path("/"):
            path.chmod(0o755)  # so that nothing protects it but the daemon
    box.wait_for_line(box.train(SLEEP), "secret")
    done = paul.riseml("status", host=f"unix://{box.socket}")
    assert done.returncode == 2
    assert "you may not use the daemon" in done.stderr
    kept = [path for top in (box.state, box.output) for path in [top, *top.rglob("*")]]
    assert any(path.name.endswith(".log") for path in kept)
    done = paul.run(paul.python, "-c", TRY_ALL, *map(str, kept))
    assert (done.returncode, done.stdout) == (0, "")


def test_another_user_who_reaches_the_socket_is_told_whose_it_is(
    box: Box, users: Callable[[], User]
) -> None:
    paul = users()
    box.wait_for_line(box.train(SLEEP), "secret")
    box.socket.parent.chmod(0o755)
    box.socket.chmod(0o666)
    host = f"unix://{box.socket}"
    for argv in (
        ["status", "-a"],
        ["logs", "1"],
        ["kill", "-f", "1"],
        ["whoami"],
        ["system", "info"],
    ):
        done = paul.riseml(*argv, host=host)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"does not serve {paul.name}" in done.stderr
    raw = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect(%r);"
        "s.sendall(b'GET /v1/whoami HTTP/1.1\\r\\nHost: a\\r\\nX-User: root\\r\\n\\r\\n');"
        "print(s.recv(9999).decode())"
    )
    answer = paul.run(paul.python, "-c", raw % str(box.socket)).stdout
    assert answer.startswith("HTTP/1.1 403")
    assert '"code":"forbidden"' in answer
    assert "RUNNING" in box.run("status").stdout
    box.run("kill", "-f", "1")


needs_own = pytest.mark.skipif(
    os.path.exists(SYSTEM_SOCKET), reason="this machine has a rised for all its users"
)


@needs_own
def test_a_user_without_any_set_up_trains_and_root_may_look(users: Callable[[], User]) -> None:
    paul = users()
    (paul.home / "riseml.yml").write_text("project: a\ntrain: {run: 'id -un; echo $HOME'}\n")
    done = paul.riseml("train")
    assert done.returncode == 0, done.stderr
    assert f"] {paul.name}\n" in done.stdout
    assert f"] {paul.home}\n" in done.stdout
    assert paul.place.stat().st_mode & 0o777 == 0o700
    output = paul.home / "riseml-output" / paul.name / "a" / "1"
    assert output.stat().st_uid == paul.uid
    socket = paul.place / "rised.sock"
    env = {**os.environ, "RISEML_HOST": f"unix://{socket}"}
    look = [sys.executable, "-m", "riseml", "logs", "1"]
    assert (
        paul.name
        in subprocess.run(look, env=env, capture_output=True, text=True, check=True).stdout
    )
    anna = users()
    done = anna.riseml("logs", "1", host=f"unix://{socket}")
    assert done.returncode == 2
    done = paul.run(paul.python, "-m", "rised", "--stop")
    assert done.returncode == 0, done.stderr


@needs_own
@pytest.mark.parametrize("how", ["directory", "link", "file"])
def test_a_place_that_another_user_took_first_is_not_used(
    users: Callable[[], User], how: str
) -> None:
    paul, eve = users(), users()
    (paul.home / "riseml.yml").write_text("project: a\ntrain: {run: 'true'}\n")
    trap = eve.home / "trap"
    eve.home.chmod(0o755)
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    make = {
        "directory": f"mkdir -m 777 {paul.place}",
        "link": f"ln -s {trap} {paul.place}",
        "file": f"touch {paul.place}",
    }
    assert eve.run("sh", "-c", make[how]).returncode == 0
    for argv in (["train"], ["status"]):
        done = paul.riseml(*argv)
        assert done.returncode == 2
        assert f"{paul.place} is not a directory that only you can write to" in done.stderr
        assert "XDG_RUNTIME_DIR" in done.stderr
    done = paul.run(paul.python, "-m", "rised", "--socket", str(paul.place / "rised.sock"))
    assert done.returncode == 2
    assert str(paul.place) in done.stderr
    assert os.listdir(trap) == []
    if how == "file":
        paul.place.unlink()
