"""Process trees that are not what they seem: recycled pids, forged marks, bystanders."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from rised.linux.process_tree import MARK, CgroupTree, SessionTree
from rised.linux.processes import ProcessSnapshot, stat
from rised.linux.termination import end_tree


class Changing:
    """A tree that shows other processes at each look."""

    cgroup = None
    roots = ()

    def __init__(self, *looks: list[int]) -> None:
        self._looks = list(looks)

    def pids(self, snapshot: ProcessSnapshot | None = None) -> list[int]:
        return self._looks.pop(0) if self._looks else []

    def kill_at_once(self) -> None:
        """Reaches nothing."""


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that dies of any signal."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as one:
        yield one
        one.kill()


@pytest.mark.parametrize("grace", [0, 5])
def test_a_pid_that_is_not_the_trees_at_a_second_look_gets_no_signal(
    bystander: subprocess.Popen[bytes], grace: float
) -> None:
    """Its process has ended after the first look, and the bystander took its number."""
    trio.run(end_tree, Changing([bystander.pid], []), grace)
    assert bystander.poll() is None


def test_processes_that_come_and_go_are_looked_for_until_none_is_left(
    bystander: subprocess.Popen[bytes],
) -> None:
    """At no two looks the same one: that there is none to signal does not mean that there is none."""
    gone = 1 << 22  # more than any pid
    pid = bystander.pid
    trio.run(end_tree, Changing([gone], [gone - 1], [], [pid], [pid]), 0)
    assert bystander.poll() is None, "the tree was empty at the third look"
    trio.run(end_tree, Changing([gone], [gone - 1], [pid], [pid]), 0)
    assert bystander.wait(10) == -9


def test_a_recycled_leader_and_its_session_are_not_the_jobs(
    bystander: subprocess.Popen[bytes],
) -> None:
    process = stat(bystander.pid)
    assert process is not None
    mine = SessionTree(bystander.pid, process.start, "x", "/nowhere", ())
    assert mine.pids() == [bystander.pid]
    other = SessionTree(bystander.pid, process.start - 1, "x", "/nowhere", ())
    assert other.pids() == []
    other.kill_at_once()
    group = CgroupTree("/nowhere", bystander.pid, process.start - 1)
    assert group.pids() == []
    trio.run(end_tree, other, 0)
    trio.run(end_tree, group, 0)
    assert bystander.poll() is None


def test_the_mark_is_compared_as_a_whole() -> None:
    with subprocess.Popen(["sleep", "1000"], env={MARK: "i/1.1.train.10"}) as one:
        try:
            tree = SessionTree(1 << 22, 0, "i/1.1.train.10", "/nowhere", ())
            assert tree.pids() == [one.pid]
            assert SessionTree(1 << 22, 0, "i/1.1.train.1", "/nowhere", ()).pids() == []
        finally:
            one.kill()


def test_who_looks_at_a_jobs_directory_or_reads_its_log_is_not_of_the_job(tmp_path: Path) -> None:
    """A person's shell in the working directory, and `tail -f`, must live on."""
    log = tmp_path / "log"
    log.touch()
    shell = ["sh", "-c", "sleep 1000 & wait"]  # its child's parent is not this process
    with (
        subprocess.Popen(shell, cwd=tmp_path, start_new_session=True) as person,
        subprocess.Popen(["tail", "-f", str(log)], stdout=subprocess.DEVNULL) as tail,
    ):
        try:
            tree = SessionTree(1 << 22, 0, "x", str(tmp_path / "work"), (str(log),))
            assert tree.pids() == []
        finally:
            os.killpg(person.pid, 9)
            tail.kill()


def test_who_writes_to_its_log_is_of_the_job_whatever_else_it_dropped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("w") as out,
        subprocess.Popen(["env", "-i", "setsid", "sleep", "1000"], stdout=out) as one,
    ):
        try:
            tree = SessionTree(1 << 22, 0, "x", "/nowhere", (str(log),))
            assert tree.pids() == [one.pid]
            log.unlink()
            assert tree.pids() == [one.pid]
        finally:
            one.kill()


@pytest.mark.parametrize("reaped", [True, False])
def test_one_that_is_started_during_a_look_is_found_though_its_parent_ends_during_it(
    monkeypatch: pytest.MonkeyPatch, reaped: bool
) -> None:
    """It comes too late to be listed, and its parent is gone when that one's facts are read."""
    listdir, started = os.listdir, list[int]()
    with subprocess.Popen(
        ["sh", "-c", "read line; sleep 1000 & echo $!"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, MARK: "x"},
    ) as parent:

        def list_and_let_it_fork(path: str) -> list[str]:
            names = listdir(path)
            if not started:
                assert parent.stdin is not None
                assert parent.stdout is not None
                parent.stdin.write(b"\n")
                parent.stdin.flush()
                started.append(int(parent.stdout.readline()))
                os.waitid(os.P_PID, parent.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
            return names

        monkeypatch.setattr(os, "listdir", list_and_let_it_fork)
        pids = SessionTree(1 << 22, 0, "x", "/nowhere", ()).pids()
        os.kill(started[0], 9)
    assert pids == started
