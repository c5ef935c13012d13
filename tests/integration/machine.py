"""A machine that real systemd runs, in namespaces of this one: to install the server on, to restart, to lose its power.

A Debian tree is made once and kept; what a machine writes lies in memory over it, and goes with it.
"""

import contextlib
import hashlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from box import PATIENCE, need

SOURCE = Path(__file__).parents[2]
_KEPT = Path("/var/tmp")
_PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates"
_SUITE = "bookworm"
_INIT = """\
set -e
mount --make-rprivate /
cd "$1"
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p before
pivot_root . before
umount -l before
exec chroot . /lib/systemd/systemd --system --log-target=console --show-status=no
"""


def _tree() -> Path:
    """The Debian tree, made if it is not there."""
    key = hashlib.sha256(f"{_SUITE} {_PACKAGES}".encode()).hexdigest()[:12]
    place = _KEPT / f"riseml-machine-{key}"
    if not place.exists():
        need(shutil.which("debootstrap") is not None, "debootstrap")
        new = Path(tempfile.mkdtemp(prefix="riseml-machine-new-", dir=_KEPT))
        new.chmod(0o755)
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(new)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert made.returncode == 0, made.stdout[-2000:]
        try:
            new.rename(place)
        except OSError:  # somebody else has made it meanwhile
            shutil.rmtree(new)
    return place


def _wheels() -> Path:
    """A directory with all packages that the server needs, this one as it is now."""
    need(sys.version_info[:2] == (3, 11), "Python 3.11, the machine's own")
    key = hashlib.sha256((SOURCE / "pyproject.toml").read_bytes()).hexdigest()[:12]
    place = _KEPT / f"riseml-wheels-{key}"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(place)]
    if not place.exists():
        subprocess.run([*pip, str(SOURCE)], check=True, timeout=300, capture_output=True)
    else:
        subprocess.run(
            [*pip, "--no-deps", str(SOURCE)], check=True, timeout=300, capture_output=True
        )
    return place


class Machine:
    """One machine."""

    def __init__(self) -> None:
        need(os.getuid() == 0, "root, to run systemd")
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        cgroup2 = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
        need(bool(cgroup2), "cgroup2")
        self._group = cgroup2[0] / f"riseml-machine-{os.getpid()}"
        tree, wheels = _tree(), _wheels()
        self._place = Path(tempfile.mkdtemp(prefix="riseml-machine-"))
        self._place.chmod(0o755)
        _mount("tmpfs", self._place, "-o", "size=2g")
        for name in ("upper", "work", "root"):
            (self._place / name).mkdir()
        self.root = self._place / "root"
        layers = f"lowerdir={tree},upperdir={self._place}/upper,workdir={self._place}/work"
        _mount("overlay", self.root, "-o", layers)
        shutil.copytree(wheels, self.root / "opt" / "wheels")
        for name in ("systemd", "scripts", "docs", "riseml", "rised", "proto"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(SOURCE / name, self.root / "opt" / "source" / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(SOURCE / name, self.root / "opt" / "source" / name)
        self._outer: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def boot(self) -> None:
        """Switch it on; return when systemd has started all that it starts by itself."""
        self._group.mkdir(exist_ok=True)
        with (self._place / "console").open("ab") as console:
            self._outer = subprocess.Popen(
                [
                    *("/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(self._group)),
                    *("unshare", "-m", "-p", "-u", "-i", "-n", "-C", "--fork", "--kill-child"),
                    *("/bin/sh", "-c", _INIT, "sh", str(self.root)),
                ],
                env={"PATH": os.environ["PATH"], "container": "riseml-test"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        for _ in range(int(PATIENCE)):
            if pids := children.read_text().split():
                self._pid = int(pids[0])
                # Waits by itself; fails only as long as systemd cannot be reached at all.
                asked = self.run("systemctl", "is-system-running", "--wait", check=False)
                if asked.stdout.strip() in ("running", "degraded"):
                    return
            self._outer.poll()
            _pause()
        raise AssertionError((self._place / "console").read_text()[-2000:])

    def lose_power(self) -> None:
        """Everything in it ends at once."""
        assert self._outer is not None
        self._outer.kill()  # and with it its child, the machine's first process
        self._outer.wait()
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(self._pid)
            select.select([pidfd], [], [], PATIENCE)
            os.close(pidfd)

    def run(
        self, *argv: str, user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as a user who has just logged in."""
        inside = ["runuser", "-l", user, "-c", '"$0" "$@"', "--", *argv] if user != "root" else argv
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "-m", "-p", "-u", "-i", "-n", "-C", *inside],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def close(self) -> None:
        """Switch it off, and remove it."""
        if self._outer and self._outer.poll() is None:
            self.lose_power()
        subprocess.run(["umount", "-l", str(self.root)], check=False)
        subprocess.run(["umount", "-l", str(self._place)], check=False)
        self._place.rmdir()
        for directory, _, _ in os.walk(self._group, topdown=False):
            os.rmdir(directory)


def _mount(kind: str, place: Path, *more: str) -> None:
    subprocess.run(["mount", "-t", kind, *more, kind, str(place)], check=True, timeout=PATIENCE)


def _pause() -> None:
    """Nobody tells when a machine that has just been switched on can be asked."""
    subprocess.run(["sleep", "0.2"], check=True)
