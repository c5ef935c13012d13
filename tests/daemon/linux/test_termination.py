"""Who is asked to end first, and that a program has its workers while it saves."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import trio

from rised.linux.process_tree import SessionTree
from rised.linux.processes import stat
from rised.linux.termination import Plan, Process, end_tree, plan


def shell(parent: int, *, catches: bool = False, reads: str = "", writes: str = "") -> Process:
    return Process(parent, True, catches, reads, writes)


def program(parent: int, *, reads: str = "", writes: str = "") -> Process:
    return Process(parent, False, False, reads, writes)


def test_workers_are_not_asked_while_their_program_lives() -> None:
    tree = {1: shell(0, catches=True), 2: program(1), 3: program(2), 4: program(3)}
    assert plan(tree, (1,)) == Plan(main=[2], waiting=[], stopped=[1])


def test_a_shell_that_catches_the_signal_gets_it_and_another_is_held() -> None:
    tree = {1: shell(0), 2: shell(1), 3: shell(2, catches=True), 4: program(3)}
    assert plan(tree, (1,)) == Plan(main=[4], waiting=[3], stopped=[1, 2])


def test_a_shell_without_children_is_a_program() -> None:
    assert plan({1: shell(0), 2: shell(1)}, (1,)).main == [2]


def test_what_reads_another_ones_output_sees_its_end() -> None:
    tree = {
        1: shell(0),
        2: shell(1),
        3: program(2, writes="pipe:[7]"),
        4: program(2, reads="pipe:[7]", writes="pipe:[8]"),
        5: program(2, reads="pipe:[8]"),
    }
    assert plan(tree, (1,)).main == [3]


def test_programs_side_by_side_are_all_asked() -> None:
    tree = {1: shell(0), 2: shell(1), 3: program(2), 4: program(2)}
    assert sorted(plan(tree, (1,)).main) == [3, 4]


def test_the_init_of_a_container_is_no_program() -> None:
    tree = {1: program(0), 2: shell(1), 3: program(2), 4: program(3)}
    assert plan(tree, (1, 2)) == Plan(main=[3], waiting=[], stopped=[2])


def test_where_rised_has_put_nothing_above_nobody_is_first() -> None:
    assert plan({5: program(1)}, (4,)) == Plan([], [], [])


@pytest.fixture
def job(tmp_path: Path) -> Iterator["Job"]:
    with Job(tmp_path) as made:
        yield made


class Job:
    """A shell in a session of its own, as a job's is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def begin(self, text: str) -> SessionTree:
        """Start `text`, and return when it has said `up`."""
        self.process = subprocess.Popen(
            ["sh", "-c", 'trap : TERM; (eval "$1"); echo "code $?"', "sh", text],
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=self._directory,
        )
        assert self.output.readline() == b"up\n"
        process = stat(self.process.pid)
        assert process
        return SessionTree(self.process.pid, process.start, "x", "/nowhere", ())

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout
        return self.process.stdout


def end(tree: SessionTree, grace: float, number: signal.Signals = signal.SIGTERM) -> None:
    async def main() -> None:
        with trio.fail_after(grace + 20):
            await end_tree(tree, grace, number)

    trio.run(main)


ASK_A_WORKER = """exec python3 -c '
import os, signal, subprocess, sys
worker = subprocess.Popen(["cat"], stdin=-1, stdout=-1)
def stop(*_):
    worker.stdin.write(b"a batch\\n"); worker.stdin.close()
    print("saved after", worker.stdout.readline().decode(), end="", flush=True)
    sys.exit(7)
signal.signal(signal.{name}, stop)
print("up", flush=True)
while True: signal.pause()
'"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_program_can_use_its_workers_until_it_has_saved(job: Job, name: str) -> None:
    tree = job.begin(ASK_A_WORKER.replace("{name}", name))
    end(tree, 30, signal.Signals[name])
    assert job.output.read() == b"saved after a batch\ncode 7\n"


def test_a_script_goes_on_with_no_other_command_after_the_signal(job: Job) -> None:
    tree = job.begin("sh -c 'echo up; sleep 1000; echo more'; echo never")
    end(tree, 30)
    assert b"more" not in job.output.read()


def test_a_script_that_catches_the_signal_cleans_up_after_its_program(job: Job) -> None:
    script = 'trap "echo cleaned; exit 5" TERM; echo up; sleep 1000; echo more'
    tree = job.begin(f"sh -c '{script}'")
    end(tree, 30)
    assert job.output.read().startswith(b"cleaned\ncode ")


def test_a_log_through_a_pipe_gets_a_programs_last_words(job: Job) -> None:
    inner = 'trap "echo saved; exit 3" TERM; echo up; while :; do sleep 0.1; done'
    tree = job.begin(f"sh -c '{inner}' | cat")
    end(tree, 30)
    assert job.output.read().startswith(b"saved\n")


def test_what_ignores_the_signal_is_killed_with_all_the_rest_when_its_time_is_over(
    job: Job,
) -> None:
    tree = job.begin("trap '' TERM; sleep 1000 & sh -c 'echo up; exec sleep 1000'")
    end(tree, 0.2)
    assert tree.pids() == []


def test_a_stopped_program_hears_the_signal(job: Job) -> None:
    """One that the user has paused would otherwise sleep through its time."""
    tree = job.begin("exec sh -c 'trap \"echo saved; exit\" TERM; echo up; kill -STOP $$; :'")
    pid = next(pid for pid in tree.pids() if pid != job.process.pid)
    while (process := stat(pid)) and process.state != "T":
        os.sched_yield()
    end(tree, 30)
    assert job.output.read() == b"saved\ncode 0\n"
