"""Facts about processes, and descriptors that never stand for a recycled pid."""

import os
import subprocess
from pathlib import Path

import trio

from rised.linux.processes import Stat, pidfd, stat, wait_for_end


def test_a_zombie_is_gone_but_not_while_one_of_its_threads_lives() -> None:
    assert Stat("Z", 1, 1, 0, 1).gone
    assert not Stat("Z", 1, 1, 0, 2).gone
    assert not Stat("S", 1, 1, 0, 1).gone


def test_a_process_that_is_not_there_has_no_stat_and_no_descriptor() -> None:
    assert stat(1 << 22) is None
    with pidfd(1 << 22) as fd:
        assert fd is None


def test_a_process_that_started_at_another_time_has_no_descriptor() -> None:
    me = stat(os.getpid())
    assert me is not None
    with pidfd(os.getpid(), me.start) as fd:
        assert fd is not None
    with pidfd(os.getpid(), me.start - 1) as fd:
        assert fd is None
    trio.run(wait_for_end, os.getpid(), me.start - 1)


def test_a_programs_name_cannot_forge_its_stat(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 1"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([str(program), "1000"], start_new_session=True) as one:
        try:
            process = stat(one.pid)
            assert process is not None
            assert (process.parent, process.session) == (os.getpid(), one.pid)
        finally:
            one.kill()
