"""What an exit file tells, also where the machine lacks what reading it takes."""

import resource
from pathlib import Path

import pytest
import trio
import trio.testing

from rised.runners.base import Exit
from rised.runners.shell import read_exit_file, when_readable


def test_an_end_is_not_lost_because_no_descriptor_is_free(tmp_path: Path) -> None:
    file = tmp_path / "exit"
    file.write_bytes(b"7  \n1.train.1\n")
    tries = 0

    def read() -> Exit:
        nonlocal tries
        tries += 1
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if tries == 1:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            return read_exit_file(str(file), "1.train.1", None, other_boot=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(when_readable, read, clock=clock) == Exit(begun=True, code=7)
    assert tries == 2


@pytest.mark.parametrize("kind", ["gone", "directory"])
def test_an_exit_file_that_a_job_has_removed_tells_nothing(kind: str, tmp_path: Path) -> None:
    if kind == "directory":
        (tmp_path / "exit").mkdir()
    shown = read_exit_file(str(tmp_path / "exit"), "1.train.1", 0, other_boot=False)
    assert shown == Exit(begun=True, code=None)
