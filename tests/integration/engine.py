"""The container engine of this machine, as the `docker` command sees it, and the images that tests run in.

No registry has to be reached: the small image is made here, the one with Python by scripts/make-image.
"""

import contextlib
import io
import os
import select
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aftermath import instance
from box import PATIENCE, Box, need

BUSYBOX = "riseml-test/busybox:latest"
"""A shell and its tools, 2 MB; made by `need_engine`."""
PYTHON = "python:3.11-slim"


def docker(*argv: str, stdin: bytes | None = None, check: bool = True) -> str:
    """What `docker …` prints."""
    done = subprocess.run(
        ["docker", *argv], input=stdin, capture_output=True, timeout=PATIENCE, check=False
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def need_engine() -> None:
    """Skip where no container engine answers; make `BUSYBOX` if it is not there."""
    here = shutil.which("docker") is not None and docker("version", check=False) != ""
    need(here, "container engine that answers")
    if image_id(BUSYBOX):
        return
    program = shutil.which("busybox")
    need(program is not None, "busybox (busybox-static)")
    assert program is not None
    docker("import", "-", BUSYBOX, stdin=_root_of(program))


def need_python() -> None:
    """Skip where `PYTHON` is not there: making it takes a minute."""
    need_engine()
    need(image_id(PYTHON) != "", f"image {PYTHON} (docker pull {PYTHON}, or scripts/make-image)")


def _root_of(busybox: str) -> bytes:
    """A root file system with nothing but busybox, as a tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            tar.addfile(directory)
        tar.add(busybox, "bin/busybox")
        for applet in subprocess.check_output([busybox, "--list"], text=True).split():
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return made.getvalue()


def image_id(name: str) -> str:
    """The image's ID; empty where it is not there."""
    return docker("image", "inspect", "--format", "{{.Id}}", name, check=False)


@contextlib.contextmanager
def called(image: str, name: str) -> Iterator[None]:
    """Let `image` be `name`, too, and put back in the end what had that name."""
    before = image_id(name)
    docker("tag", image, name)
    try:
        yield
    finally:
        if before:
            docker("tag", before, name)
        else:
            docker("rmi", name)


def containers(root: Path) -> list[str]:
    """Names of the containers, running or not, in which something below `root` is mounted."""
    listed = docker("ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.Mounts}}")
    return [line.split()[0] for line in listed.splitlines() if f"{root}/" in line]


def gone(root: Path) -> bool:
    """Return when no container of `root` is left; the engine tells when one goes."""
    command = ["docker", "events", "--filter", "event=destroy", "--format", "{{.ID}}"]
    command += ["--since", "1m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as events:
        try:
            assert events.stdout is not None
            while containers(root):
                assert select.select([events.stdout], [], [], PATIENCE)[0], containers(root)
                os.read(events.stdout.fileno(), 65536)
        finally:
            events.kill()
    return True


def built_images(box: Box) -> set[str]:
    """IDs of the images that the box's daemon, which must have been stopped, built."""
    label = f"label=riseml.instance={instance(box.state)}"
    return set(docker("images", "--no-trunc", "--format", "{{.ID}}", "--filter", label).split())


def remove_all(box: Box) -> None:
    """Remove what the box's daemon, which must have been stopped, left in the engine."""
    for name in containers(box.root):
        docker("rm", "--force", "--volumes", name, check=False)  # it may be going already
    gone(box.root)
    for image in built_images(box):
        docker("rmi", "--force", image)


class OwnEngine:
    """An engine of the test's own, which it may kill. Needs root; `own_engine` makes one."""

    def __init__(self, root: Path, *unshared: str) -> None:
        """`unshared` are options of `unshare`: what it does not share with the machine."""
        self.root = root
        self.host = f"unix://{root}/docker.sock"
        self._argv = [
            *("unshare", "--net", *unshared),  # it would take down the bridge of the machine's own
            *("dockerd", "--host", self.host, "--data-root", str(root / "data")),
            *("--exec-root", str(root / "exec"), "--pidfile", str(root / "pid")),
            *("--iptables=false", "--live-restore"),
        ]
        self._log = root / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers; one that was killed is taken up again."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, stdout=log, stderr=log, start_new_session=True
            )
        follow = ["tail", "-n", "+1", "-F", f"--pid={self._process.pid}", str(self._log)]
        with subprocess.Popen(follow, stdout=subprocess.PIPE) as lines:
            try:
                assert lines.stdout is not None
                for line in lines.stdout:
                    assert b"failed to start" not in line, line
                    if b"API listen on" in line:
                        return
                raise AssertionError(self._log.read_text())
            finally:
                lines.kill()

    def load(self, image: str) -> None:
        """Give it an image that the machine's own engine has."""
        saved = subprocess.run(["docker", "save", image], capture_output=True, check=True).stdout
        docker("--host", self.host, "load", stdin=saved)

    def kill(self) -> None:
        """`kill -9`, to it and to its containerd, which goes with it sooner or later."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for pid in _pids():
            if f"{self.root}/exec/containerd/containerd.toml" in _command_line(pid):
                fd = os.pidfd_open(pid)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                assert select.select([fd], [], [], PATIENCE)[0]
                os.close(fd)
        # Where nobody reaps it, a new one would take it for alive.
        (self.root / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """End it and whatever it left, and remove its files."""
        while left := [pid for pid in _pids() if str(self.root) in _command_line(pid)]:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._process:
                self._process.wait()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if str(self.root) in line:
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
        shutil.rmtree(self.root)


@contextlib.contextmanager
def own_engine(*unshared: str) -> Iterator[OwnEngine]:
    """A running engine that has `BUSYBOX`."""
    need_engine()
    need(os.getuid() == 0, "root, who may start an engine")
    made = OwnEngine(Path(tempfile.mkdtemp(prefix="riseml-engine-", dir="/tmp")), *unshared)
    try:
        made.start()
        made.load(BUSYBOX)
        yield made
    finally:
        made.remove()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command_line(pid: int) -> str:
    """Empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
