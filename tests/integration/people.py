"""Other people on the machine: real users with homes of their own, and the places where a daemon serves them all."""

import contextlib
import functools
import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from box import PATIENCE, need

import riseml
import riseml_proto

# What makes `import riseml` work without its being installed.
MODULES = ":".join(
    {
        os.path.dirname(os.path.dirname(module.__file__ or ""))
        for module in (riseml, riseml_proto, msgspec)
    }
)


class User:
    """Another person with an account and a home of their own."""

    def __init__(self, name: str, home: Path, groups: Sequence[str] = ()) -> None:
        more = ["--groups", ",".join(groups)] if groups else []
        subprocess.run(["useradd", "--no-create-home", "--home-dir", home, *more, name], check=True)
        found = pwd.getpwnam(name)
        self.name, self.uid, self.gid = name, found.pw_uid, found.pw_gid
        self.home = home
        self.project = home / "project"
        for directory in (home, self.project):
            directory.mkdir(mode=0o700)
            os.chown(directory, self.uid, self.gid)
        self.groups = [grp.getgrnam(group).gr_gid for group in groups]
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

    def run(
        self, *argv: str, host: str = "", cwd: Path | None = None, umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` as this user, in a fresh login's environment."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": MODULES}
        if host:
            env["RISEML_HOST"] = host
        return subprocess.run(
            argv,
            cwd=cwd or self.project,
            umask=umask,
            env=env,
            user=self.uid,
            group=self.gid,
            extra_groups=self.groups,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def popen(self, *argv: str) -> subprocess.Popen[str]:
        """Start `argv` as this user, between pipes."""
        return subprocess.Popen(
            argv,
            cwd=self.project,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": MODULES},
            user=self.uid,
            group=self.gid,
            extra_groups=self.groups,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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


@contextlib.contextmanager
def people() -> Iterator[Callable[..., User]]:
    """Makes users who are gone in the end; `groups` are made, too."""
    need(os.getuid() == 0 and shutil.which("useradd") is not None, "root, to make users")
    made: list[User] = []
    groups: set[str] = set()
    # Above pytest's own directories there is one that only root may enter.
    root = Path(tempfile.mkdtemp(prefix="riseml-users-"))
    root.chmod(0o755)

    def make(*own: str) -> User:
        for group in own:
            if group not in groups:
                subprocess.run(["groupadd", group], check=True)
                groups.add(group)
        name = f"riseml-{os.getpid() % 10**6}-{len(made)}"
        made.append(User(name, root / str(len(made)), own))
        return made[-1]

    try:
        yield make
    finally:
        for user in made:
            user.close()
        for group in groups:
            subprocess.run(["groupdel", group], check=False, capture_output=True)
        shutil.rmtree(root)
