"""Fixtures for tests against a real daemon."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box
from box import need as need
from engine import need_engine, remove_all


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
