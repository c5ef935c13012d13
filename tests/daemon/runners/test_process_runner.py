"""The process runner by itself: held, begun, adopted, settled."""

import ctypes
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trio

from rised.linux.cgroups import delegated_cgroup
from rised.linux.children import Children
from rised.linux.processes import ProcessSnapshot, stat
from rised.linux.usage import measure
from rised.runners.base import Exit, Job
from rised.runners.output.pipes import OutputPipes
from rised.runners.process import cgroups
from rised.runners.process.handle import ProcessHandle
from rised.runners.process.runner import ProcessRunner
from rised.users.owner import own
from riseml_proto.errors import StartFailed


@pytest.fixture(params=["cgroup", "session"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A state directory for runners that have a control group, or none."""
    if request.param == "session":
        monkeypatch.setattr(cgroups, "delegated_cgroup", lambda _: None)
    elif delegated_cgroup("rised-probe-of-tests") is None:
        pytest.skip("needs the right to make control groups")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "hello").write_text("hello\n")
    yield tmp_path
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def job(place: Path, *commands: str, attempt: int = 1, **env: str) -> Job:
    return Job(
        id="1.2.train",
        attempt=attempt,
        commands=commands,
        env={"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "", **env},
        files=str(place / "files"),
        log=str(place / f"log.{attempt}"),
        owner=own(),
    )


def output(made: Job) -> str:
    return Path(made.log).read_text()


def run(place: Path, test: Callable[[ProcessRunner], Awaitable[None]]) -> None:
    """One life of a daemon, as far as its runner goes."""

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                children = Children()
                await nursery.start(children.run)
                instance = f"tests{os.getpid()}"
                pipes = OutputPipes(str(place), children)
                await nursery.start(pipes.run)
                groups = cgroups.Cgroups(instance)
                runner = ProcessRunner(str(place), instance, children, groups, pipes, 1024)
                try:
                    await test(runner)
                finally:
                    runner.close()
                nursery.cancel_scope.cancel()

    trio.run(main)


async def finish(runner: ProcessRunner, made: Job, handle: ProcessHandle) -> Exit:
    how = await handle.wait()
    await handle.settle(0)
    handle.close()
    await runner.clean(made)
    return how


def assert_clean(place: Path, runner: ProcessRunner) -> None:
    assert os.listdir(place / "work") == []
    group = runner._cgroups.base
    if group:
        assert [entry.name for entry in os.scandir(group) if entry.is_dir()] == []


def test_it_begins_only_after_the_start_signal_and_in_a_copy_of_its_own(place: Path) -> None:
    made = job(place, "cat hello; echo mine > hello; echo $CUDA_VISIBLE_DEVICES", "cat hello")

    async def test(runner: ProcessRunner) -> None:
        handle = await runner.start(made)
        assert handle.is_held
        assert output(made) == ""
        handle.begin("2,3")
        assert await finish(runner, made, handle) == Exit(begun=True, code=0)
        assert_clean(place, runner)

    run(place, test)
    assert output(made) == "hello\n2,3\nmine\n"
    assert (place / "files" / "hello").read_text() == "hello\n"


def test_one_that_gets_no_start_signal_ends_without_having_begun(place: Path) -> None:
    made = job(place, "echo no")

    async def test(runner: ProcessRunner) -> None:
        handle = await runner.start(made)
        handle.close()
        how = await finish(runner, made, handle)
        assert not how.begun
        assert_clean(place, runner)

    run(place, test)
    assert output(made) == ""


def test_the_daemons_end_lets_what_runs_run_on_and_ends_what_was_held(place: Path) -> None:
    """The pipe ends with the daemon, and the next one adopts both."""
    running = job(place, f"echo up; read x < {place}/fifo; exit 7")
    held = job(place, "echo no", attempt=2)
    os.mkfifo(place / "fifo")
    identities = []

    async def first(runner: ProcessRunner) -> None:
        one, two = await runner.start(running), await runner.start(held)
        identities.extend([one.identity, two.identity])
        one.begin("")
        two.close()

    async def second(runner: ProcessRunner) -> None:
        runner.remove_leftovers(dict(zip((running.key, held.key), identities, strict=True)))
        one = await runner.adopt(running, identities[0])
        two = await runner.adopt(held, identities[1])
        assert await finish(runner, held, two) == Exit(begun=False, code=None)
        await trio.Path(place / "fifo").write_text("go\n")
        assert await finish(runner, running, one) == Exit(begun=True, code=7)
        assert_clean(place, runner)

    run(place, first)
    run(place, second)
    assert output(running) == "up\n"


def test_an_adopted_one_is_killed_with_all_that_it_started(place: Path) -> None:
    made = job(place, f"setsid sleep 1000 & echo $! > {place}/pid; echo > {place}/fifo; wait")
    os.mkfifo(place / "fifo")
    identities = []

    async def first(runner: ProcessRunner) -> None:
        handle = await runner.start(made)
        identities.append(handle.identity)
        handle.begin("")
        await trio.Path(place / "fifo").read_text()

    async def second(runner: ProcessRunner) -> None:
        runner.remove_leftovers({made.key: identities[0]})
        handle = await runner.adopt(made, identities[0])
        await handle.kill(0)
        assert await finish(runner, made, handle) == Exit(begun=True, code=None)
        found = stat(int((place / "pid").read_text()))
        assert found is None or found.gone
        assert_clean(place, runner)

    run(place, first)
    run(place, second)


def test_after_a_reboot_what_ended_is_believed_and_what_ran_is_lost(place: Path) -> None:
    ended, ran = job(place, "exit 0"), job(place, "exit 0", attempt=2)
    identities = {}

    async def first(runner: ProcessRunner) -> None:
        for made in (ended, ran):
            handle = await runner.start(made)
            identities[made.key] = handle.identity
            handle.begin("")
            await handle.wait()
            await handle.settle(0)

    async def second(runner: ProcessRunner) -> None:
        for made, how in ((ended, Exit(begun=True, code=0)), (ran, Exit(begun=True, code=None))):
            identity = msgspec.structs.replace(identities[made.key], boot="another-boot")
            assert await finish(runner, made, await runner.adopt(made, identity)) == how

    run(place, first)
    exit_file = Path(identities[ran.key].exit_file)
    exit_file.write_bytes(exit_file.read_bytes().replace(b"0  \n", b"run\n"))
    run(place, second)


def test_the_exit_code_of_another_job_is_never_taken_for_its_own(place: Path) -> None:
    """Exit files are used again, and the disk may hold an older content after a loss of power."""
    made, other = job(place, "exit 0"), job(place, "exit 0", attempt=2)

    async def test(runner: ProcessRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        await handle.wait()
        adopted = await runner.adopt(other, handle.identity)
        assert await adopted.wait() == Exit(begun=True, code=None)
        await finish(runner, made, handle)

    run(place, test)


def test_what_is_in_the_way_is_named(place: Path) -> None:
    async def test(runner: ProcessRunner) -> None:
        (place / "work" / "1.2.train.1").mkdir()
        with pytest.raises(StartFailed, match=r"work/1\.2\.train\.1: File exists"):
            await runner.start(job(place, "true"))
        await runner.clean(job(place, "true"))
        long = job(place, "true", attempt=2)._replace(commands=["x" * (1 << 21)])
        with pytest.raises(StartFailed, match="Argument list too long"):
            await runner.start(long)
        await runner.clean(long)
        assert_clean(place, runner)

    run(place, test)


def test_its_open_files_are_limited_as_the_daemons_were_at_first(place: Path) -> None:
    made = job(place, "ulimit -S -n")

    async def test(runner: ProcessRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        await finish(runner, made, handle)

    run(place, test)
    assert output(made) == "1024\n"


def test_leftovers_that_nobody_keeps_are_removed(place: Path) -> None:
    kept = job(place, "true")

    async def test(runner: ProcessRunner) -> None:
        handle = await runner.start(kept)
        (place / "work" / "9.train.1" / "deep").mkdir(parents=True)
        (place / "run" / "77").touch()
        if runner._cgroups.base:
            os.mkdir(runner._cgroups.path("9.train.1"))
        runner.remove_leftovers({kept.key: handle.identity})
        assert os.listdir(place / "work") == [kept.key]
        assert sorted(os.listdir(place / "run")) == ["0", "0.out"]
        handle.close()
        await finish(runner, kept, handle)
        assert_clean(place, runner)

    run(place, test)


def test_what_it_uses_is_known_while_it_runs(place: Path) -> None:
    """A child that it waited for counts, with a control group or without."""
    told = place / "told"
    os.mkfifo(told)
    burn = "import time; any(time.process_time() > 0.3 for _ in iter(int, 1))"
    made = job(place, f"{sys.executable} -c '{burn}'; echo >{told}; mkfifo gate; read x <gate")

    async def test(runner: ProcessRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        await trio.to_thread.run_sync(told.read_text)
        use = measure(handle.local.pids(ProcessSnapshot()), handle.local.cgroup)
        assert use.cpu_seconds >= 0.25
        assert use.memory > 0
        assert use.processes >= 1
        await handle.kill(0)
        await finish(runner, made, handle)

    run(place, test)
