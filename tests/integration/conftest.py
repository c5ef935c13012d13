"""Fixtures for tests against a real daemon."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box
from box import need as need
from engine import need_engine, remove_all
from people import User, people


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one file that is daemon and client, as `make binary` builds it."""
    file = tmp_path_factory.mktemp("binary") / "rised"
    build = Path(__file__).parents[2] / "scripts" / "binary" / "build.py"
    subprocess.run([sys.executable, build, file], check=True, timeout=300)
    return file


@pytest.fixture
def make_box(tmp_path: Path) -> Iterator[Callable[..., Box]]:
    """Makes boxes that end with the test."""
    boxes: list[Box] = []

    def make(**flags: object) -> Box:
        root = tmp_path / f"box{len(boxes)}"
        root.mkdir()
        boxes.append(Box(root, **flags))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


@pytest.fixture
def make_shared_box() -> Iterator[Callable[..., Box]]:
    """Makes boxes whose daemons serve every user of the machine, in places that all can reach."""
    need(os.getuid() == 0, "root, to serve other users")
    boxes: list[Box] = []
    # Above pytest's own directories there is one that only root may enter.
    root = Path(tempfile.mkdtemp(prefix="riseml-shared-"))
    root.chmod(0o755)

    def make(**flags: object) -> Box:
        place = root / str(len(boxes))
        place.mkdir(mode=0o755)
        boxes.append(Box(place, system=True, config="/dev/null", **flags))
        boxes[-1].socket.parent.mkdir(mode=0o755)
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()
    shutil.rmtree(root)


@pytest.fixture
def shared(make_shared_box: Callable[..., Box]) -> Box:
    """A running daemon with 4 declared GPUs that serves every user of the machine."""
    made = make_shared_box(gpus=4)
    made.start()
    return made


@pytest.fixture
def box(make_box: Callable[..., Box]) -> Box:
    """A running daemon with 4 declared GPUs."""
    made = make_box(gpus=4)
    made.start()
    return made


@pytest.fixture
def make_engine_box(make_box: Callable[..., Box]) -> Iterator[Callable[..., Box]]:
    """Makes boxes whose daemons may run containers, of which nothing is left in the end."""
    need_engine()
    boxes: list[Box] = []

    def make(**flags: object) -> Box:
        boxes.append(make_box(**flags))
        return boxes[-1]

    yield make
    for box in boxes:
        if box.daemon:
            box.daemon.terminate()
            box.daemon.wait()
            remove_all(box)


@pytest.fixture
def engine_box(make_engine_box: Callable[..., Box]) -> Box:
    """A running daemon with 4 declared GPUs and a container engine."""
    made = make_engine_box(gpus=4)
    made.start()
    return made


@pytest.fixture
def users() -> Iterator[Callable[..., User]]:
    """Makes users who are gone when the test is over."""
    with people() as make:
        yield make
