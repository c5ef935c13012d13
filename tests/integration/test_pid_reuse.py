"""No signal ever reaches a process that has only taken over the number of another.

Each test runs in a pid namespace of its own, where the next pid can be chosen: a number that a job had is given to a
bystander at once. The bystander dies of any signal, so that it lives on shows that it got none.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from box import need
from hostile import Stage

from rised.linux.children import Children
from rised.linux.processes import ended, pidfd, stat
from rised.runners.base import Exit, Job
from rised.runners.output.pipes import OutputPipes
from rised.runners.process import cgroups
from rised.runners.process.handle import ProcessHandle
from rised.runners.process.runner import ProcessRunner
from rised.users.owner import own
from riseml_proto.states import Reason, State

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
TICK = 1 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("isolation", ["cgroup", "session"])
@pytest.mark.parametrize(
    "scene", ["adopted", "adopted_and_killed", "left_behind", "daemon", "lost"]
)
def test_a_bystander_with_the_jobs_number_lives_on(scene: str, isolation: str) -> None:
    possible = subprocess.run([*UNSHARE, "true"], check=False, stderr=subprocess.DEVNULL)
    need(possible.returncode == 0, "right to make a pid namespace")
    done = subprocess.run(
        [*UNSHARE, sys.executable, __file__, scene, isolation],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# In the namespace, as its first process.


@contextlib.contextmanager
def bystander(pid: int) -> Iterator[None]:
    """A process with the number `pid`, which is free, in a session of its own. In the end it must be alive."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    while time.clock_gettime(time.CLOCK_BOOTTIME) < before + 2 * TICK:
        pass  # it must not have the same start as the one before it
    assert stat(pid) is None
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as one:
        try:
            assert one.pid == pid
            yield
            assert one.poll() is None, "the bystander is dead"
        finally:
            one.kill()


def reap() -> None:
    """Wait for all that was left to us, the first process. A number is free when no session or group has it either."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def with_runner(isolation: str, test: Callable[[ProcessRunner, Job], object]) -> None:
    """Run the async `test` with a runner in a directory of its own."""
    if isolation == "session":
        vars(cgroups)["delegated_cgroup"] = lambda _: None

    async def main(root: str) -> None:
        async with trio.open_nursery() as nursery:
            children = Children()
            await nursery.start(children.run)
            instance = f"reuse{time.time_ns()}"
            pipes = OutputPipes(root, children)
            await nursery.start(pipes.run)
            groups = cgroups.Cgroups(instance)
            runner = ProcessRunner(root, instance, children, groups, pipes, 1024)
            assert runner.isolation == isolation
            os.mkdir(f"{root}/files")
            token = "exec 2> /dev/null; "
            job = Job(
                "1.train",
                1,
                [token + COMMANDS],
                dict(os.environ),
                f"{root}/files",
                f"{root}/log",
                own(),
            )
            try:
                await test(runner, job)  # type: ignore[misc]
            finally:
                runner.close()
            nursery.cancel_scope.cancel()

    with tempfile.TemporaryDirectory() as root:
        trio.run(main, root)


# Something deaf in another session stays alive when its shell ends or is killed.
COMMANDS = """\
mkfifo f
sh -c 'echo $PPID' > pid
setsid sh -c 'trap "" TERM; echo > f; while :; do sleep 1000; done' &
read x < f
kill -9 $PPID
"""


def number(handle: ProcessHandle) -> int:
    """The pid of its shell."""
    return handle.identity.pid


async def until_free(job: Job, handle: ProcessHandle) -> None:
    """Wait until its shell and the other process in its session are gone and reaped."""
    assert handle._child is not None
    await handle._child.wait()
    subshell = Path(job.files).parent / "work" / job.key / "pid"
    with pidfd(int(await trio.Path(subshell).read_text())) as fd:
        if fd is not None:
            await ended(fd)
    await trio.testing.wait_all_tasks_blocked(0.02)


def adopted(isolation: str, *, kill: bool = False) -> None:
    """The shell died while no daemon looked, and its number was taken: the next daemon ends what it left behind."""

    async def test(runner: ProcessRunner, job: Job) -> None:
        handle = await runner.start(job)
        handle.begin("")
        await until_free(job, handle)
        with bystander(number(handle)):
            again = await runner.adopt(job, handle.identity)
            assert await again.wait() == Exit(begun=True, code=None)
            if kill:
                await again.kill(0.2)
            await again.settle(0.2)
            assert again._tree.pids() == []
        await runner.clean(job)

    with_runner(isolation, test)


def adopted_and_killed(isolation: str) -> None:
    """The same, and someone kills it at once."""
    adopted(isolation, kill=True)


def left_behind(isolation: str) -> None:
    """The shell has ended and been reaped; while what it left behind has its time of grace, its number is taken."""

    async def test(runner: ProcessRunner, job: Job) -> None:
        handle = await runner.start(job)
        handle.begin("")
        assert await handle.wait() == Exit(begun=True, code=137)
        await until_free(job, handle)
        with bystander(number(handle)):
            await handle.settle(0.2)
            assert handle._tree.pids() == []
        await runner.clean(job)

    with_runner(isolation, test)


def daemon(isolation: str, *, ending: str = "exit 3") -> None:
    """The job ends while the daemon is dead, a bystander takes its number, the daemon comes back."""
    with tempfile.TemporaryDirectory() as root:
        stage = Stage(Path(root), isolation=isolation, kill_grace=0.2)
        stage.begin()
        number = stage.submit(f"mkfifo $OUTPUT_DIR/f; echo $$; read x < $OUTPUT_DIR/f; {ending}")
        (pid,) = (int(e.text) for e in [stage.wait(number, lambda e: hasattr(e, "end"))])  # type: ignore[union-attr]
        stage.kill_daemon()
        next(Path(root, "output").glob(f"*/p/{number}/f")).write_text("go\n")
        reap()
        with bystander(pid):
            stage.start()
            assert stage.wait_for_end(number) is State.FAILED
            member = stage.member(number)
            assert stage.kill(number, force=True).ended == [number]
            stage.stop()
        if ending == "exit 3":
            assert (member.reason, member.exit_code) == (Reason.ERROR, 3)
        else:
            assert (member.reason, member.exit_code) == (Reason.LOST, None)
        stage.close()


def lost(isolation: str) -> None:
    """The same, and the job left no word."""
    daemon(isolation, ending="kill -9 $PPID")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
