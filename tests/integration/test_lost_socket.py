"""A daemon whose socket is gone, as when the last log-out removes /run/user/UID under it."""

import os
import shutil
import subprocess
from pathlib import Path

from box import Box

from riseml_proto.states import State

JOB = "project: toaster\ntrain:\n  run: 'echo up; read line < go; echo $line'\n"


def test_the_next_daemon_takes_the_place_of_one_that_nobody_can_reach(box: Box) -> None:
    os.mkfifo(box.root / "go")
    number = box.train(JOB.replace("< go", f"< {box.root}/go"))
    box.wait_for_line(number, "up")
    shutil.rmtree(box.socket.parent)
    old = box.daemon
    assert old is not None
    box.start()
    assert old.wait() == 0
    Path(box.root / "go").write_text("on\n")
    box.wait_for_line(number, "on")
    assert box.wait_for_end(number) is State.FINISHED


def test_a_daemon_that_can_be_reached_keeps_its_state_directory(box: Box, tmp_path: Path) -> None:
    assert box.daemon is not None
    other = [*box.argv(), "--socket", str(box.socket.parent / "other")]
    done = subprocess.run(other, env=box.env, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert f"(pid {box.daemon.pid}): use that one by --host unix://{box.socket}, " in done.stderr
    assert box.json("status") == []
