"""What the machine lacks for a while is no fault of a job: it waits, says for what, and is run once that is over."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import Box, need

from riseml_proto.messages import StateEntry
from riseml_proto.states import State

ONE = "project: p\ntrain: {run: 'echo done'}\n"


def _waits(box: Box, number: str) -> str:
    """What it waits for, once a start was put off."""
    box.wait(
        number,
        lambda entry: (
            isinstance(entry, StateEntry) and entry.state is State.PENDING and bool(entry.message)
        ),
    )
    shown = box.json("status", number)
    assert isinstance(shown, dict)
    return str(shown["experiments"][0]["reason"])


@contextlib.contextmanager
def _mounted(directory: Path) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    need(os.geteuid() == 0, "root, to mount a disk")
    mount = ["mount", "-t", "tmpfs", "none", str(directory)]
    need(subprocess.run(mount, check=False).returncode == 0, "the right to mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=False, capture_output=True)


@pytest.mark.slow
def test_outputs_on_a_disk_that_is_read_only_for_a_while(make_box: Callable[..., Box]) -> None:
    box = make_box()
    with _mounted(box.output):
        box.start()
        subprocess.run(["mount", "-o", "remount,ro", box.output], check=True)
        number = box.train(ONE)
        assert "Read-only file system" in _waits(box, number)
        subprocess.run(["mount", "-o", "remount,rw", box.output], check=True)
        assert box.wait_for_end(number) is State.FINISHED
        box.stop()


@pytest.mark.slow
def test_outputs_on_a_disk_that_is_not_mounted_for_a_while(make_box: Callable[..., Box]) -> None:
    box = make_box()
    with _mounted(box.output):
        box.start()
        subprocess.run(["umount", box.output], check=True)
        number = box.train(ONE)
        assert "the disk is not mounted" in _waits(box, number)
        assert list(box.output.iterdir()) == []
        with _mounted(box.output):
            assert box.wait_for_end(number) is State.FINISHED
            assert (box.output / "root/p" / number / "riseml-configuration.yml").exists()
            box.stop()


@pytest.mark.slow
def test_a_kill_ends_the_waiting_at_once_and_a_crash_does_not(make_box: Callable[..., Box]) -> None:
    box = make_box()
    with _mounted(box.output):
        box.start()
        subprocess.run(["mount", "-o", "remount,ro", box.output], check=True)
        first, second = box.train(ONE), box.train(ONE)
        _waits(box, first)
        _waits(box, second)
        box.kill_daemon()
        box.start()
        _waits(box, second)
        box.run("kill", first)
        assert box.wait_for_end(first) is State.KILLED
        subprocess.run(["mount", "-o", "remount,rw", box.output], check=True)
        assert box.wait_for_end(second) is State.FINISHED
        box.stop()


@pytest.mark.slow
def test_a_set_that_meets_the_end_of_processes_runs_as_a_whole(
    make_box: Callable[..., Box],
) -> None:
    place = Path("/sys/fs/cgroup/pids")
    need(place.is_dir() and os.access(place, os.W_OK), "the pids controller of control groups")
    group = place / f"riseml-shortage-{os.getpid()}"
    group.mkdir()
    try:
        (group / "pids.max").write_text("40")
        box = make_box(gpus=0, cpus=100)
        box.prefix = ["sh", "-c", f'echo 0 >{group}/cgroup.procs; exec "$@"', "sh"]
        box.start()
        number = box.train(
            "project: p\ntrain:\n  run: sleep 0.5\n  concurrency: 50\n"
            "  parameters: {x: {range: {min: 1, max: 60, step: 1}}}\n"
        )
        assert box.wait_for_end(number) is State.FINISHED
        shown = box.json("status", number)
        assert isinstance(shown, dict)
        assert shown["counts"] == {"FINISHED": 60}
        assert "start put off" in box.log.read_text()
        box.stop()
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            group.rmdir()


@pytest.mark.slow
def test_a_daemon_without_a_free_descriptor_lives_and_loses_no_end(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(gpus=0, cpus=100)
    box.prefix = ["prlimit", "--nofile=64:64", "--"]
    box.start()
    number = box.train(
        "project: p\ntrain:\n  run: sleep 0.3\n  concurrency: 60\n"
        "  parameters: {x: {range: {min: 1, max: 80, step: 1}}}\n"
    )
    assert box.wait_for_end(number) is State.FINISHED
    shown = box.json("status", number)
    assert isinstance(shown, dict)
    assert shown["counts"] == {"FINISHED": 80}
    box.stop()
