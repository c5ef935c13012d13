"""What a request opened is closed with its answer: a disk can be unmounted on which somebody mistyped a path."""

import os

import pytest
from box import Box

BAD = (
    ("ls", "output://1/nope"),
    ("ls", "output://1/nope/deeper"),
    ("ls", "output://1/riseml-configuration.yml/below"),
    ("ls", "output://1/circle"),
    ("ls", "output://1/out"),
    ("ls", "-r", "output://1/closed"),
    ("ls", "data://nope"),
    ("cp", "output://1/nope", "."),
    ("cp", "output://1/fifo", "."),
    ("cp", "output://1/out", "."),
    ("cp", "riseml.yml", "output://1/nope/deeper/"),
    ("cp", "riseml.yml", "output://1/riseml-configuration.yml/below"),
    ("rm", "output://1/nope"),
    ("rm", "output://1/directory"),
    ("rm", "output://1/nope/deeper"),
    ("rm", "data://nope"),
    ("logs", "1.7"),
    ("logs", "99"),
    ("status", "99"),
    ("best", "1"),
    ("kill", "99"),
)
JOB = (
    "cd $OUTPUT_DIR && mkdir directory closed && mkfifo fifo && ln -s circle circle && ln -s / out"
)


@pytest.mark.slow
def test_a_request_that_fails_leaves_no_file_open(box: Box) -> None:
    number = box.train(f"project: p\ntrain: {{run: '{JOB}'}}\n")
    box.wait_for_end(number)
    box.run("ls", f"output://{number}")  # what the first request of a kind opens for good
    for words in BAD:
        box.run(*words, cwd=box.root / "project", check=False)
        left = [
            path for path in _open_files(box) if str(box.output) in path or str(box.data) in path
        ]
        assert left == [], words


def _open_files(box: Box) -> list[str]:
    assert box.daemon is not None
    directory, paths = f"/proc/{box.daemon.pid}/fd", []
    for name in os.listdir(directory):
        try:
            paths.append(os.readlink(f"{directory}/{name}"))
        except FileNotFoundError:
            continue
    return paths
