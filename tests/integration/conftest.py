"""Fixtures for tests against a real daemon."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box


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


def need(condition: bool, what: str) -> None:
    """Skip a test where the machine lacks `what`; where nothing may be lacking, fail."""
    if condition:
        return
    if os.environ.get("RISEML_TEST_SKIPS") == "fail":
        pytest.fail(f"this machine has no {what}, and here no test may be skipped")
    pytest.skip(f"needs {what}")
