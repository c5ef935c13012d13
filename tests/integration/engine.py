"""The container engine of this machine, as the `docker` command sees it, and the images that tests run in."""

import contextlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator

from aftermath import instance
from box import PATIENCE, Box, need

BUSYBOX = "riseml-test/busybox:latest"
"""A shell and its tools, 2 MB; made by `need_busybox`."""
PYTHON = "python:3.11-slim"


def docker(*argv: str, stdin: bytes | None = None, check: bool = True) -> str:
    """What `docker …` prints."""
    done = subprocess.run(
        ["docker", *argv], input=stdin, capture_output=True, timeout=PATIENCE, check=False
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def need_engine() -> None:
    """Skip where no container engine answers."""
    here = shutil.which("docker") is not None
    need(here and docker("version", check=False) != "", "container engine that answers")


def need_busybox() -> None:
    """Make `BUSYBOX` if it is not there."""
    need_engine()
    if image_id(BUSYBOX):
        return
    program = shutil.which("busybox")
    need(program is not None, "busybox (busybox-static)")
    assert program is not None
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            tar.addfile(directory)
        tar.add(program, "bin/busybox")
        for applet in subprocess.check_output([program, "--list"], text=True).split():
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    docker("import", "-", BUSYBOX, stdin=made.getvalue())


def need_python() -> None:
    """Skip where `PYTHON` is not there: making it takes a minute."""
    need_engine()
    need(image_id(PYTHON) != "", f"image {PYTHON} (docker pull {PYTHON}, or scripts/make-image)")


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


def containers(box: Box) -> list[str]:
    """Names of the containers that the box's daemon made, those that have ended, too."""
    listed = docker("ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.Mounts}}")
    return [line.split()[0] for line in listed.splitlines() if f"{box.state}/" in line]


def built_images(box: Box) -> set[str]:
    """IDs of the images that the box's daemon, which must have been stopped, built."""
    label = f"label=riseml.instance={instance(box)}"
    return set(docker("images", "--no-trunc", "--format", "{{.ID}}", "--filter", label).split())


def remove_all(box: Box) -> None:
    """Remove what the box's daemon, which must have been stopped, left in the engine."""
    for name in containers(box):
        docker("rm", "--force", "--volumes", name)
    for image in built_images(box):
        docker("rmi", "--force", image)
