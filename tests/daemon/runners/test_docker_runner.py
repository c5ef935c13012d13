"""The container runner by itself, on a real engine: held, begun, adopted, killed, and built."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from engine import BUSYBOX, docker, image_id, need_engine, own_engine

from rised.linux.children import Children
from rised.runners.base import Container, Exit, Job
from rised.runners.docker import images
from rised.runners.docker.engine import Engine
from rised.runners.docker.handle import ContainerHandle
from rised.runners.docker.runner import ContainerRunner
from rised.runners.identity import JobIdentity
from rised.runners.output.pipes import OutputPipes
from rised.users.owner import own
from riseml_proto.errors import ImageFailed, NoEngine


class Place(NamedTuple):
    """What one daemon has, however often it is started."""

    root: Path
    instance: str
    host: str | None = None

    @property
    def containers(self) -> list[str]:
        """Names of those that the engine has of this daemon."""
        label = f"label=riseml.instance={self.instance}"
        engine = ["--host", self.host] if self.host else []
        listed = docker(*engine, "ps", "--all", "--filter", label, "--format", "{{.Names}}")
        return listed.split()

    def job(self, *commands: str, attempt: int = 1, build: bool = False, **env: str) -> Job:
        """Runs `commands` in the small image."""
        image = image_id(BUSYBOX)
        output = str(self.root / "output")
        return Job(
            id="1.2.train",
            attempt=attempt,
            commands=commands,
            env={"CUDA_VISIBLE_DEVICES": "", **env},
            files=str(self.root / "files"),
            log=str(self.root / f"log.{attempt}"),
            owner=own(),
            container=Container(image, output, str(self.root / "data"), build=build),
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    need_engine()
    yield _place(tmp_path)
    for name in _place(tmp_path).containers:
        docker("rm", "--force", name)


def _place(root: Path, host: str | None = None) -> Place:
    for name in ("files", "data", "output"):
        (root / name).mkdir(exist_ok=True)
    (root / "files" / "hello").write_text("hello\n")
    return Place(root, uuid.uuid5(uuid.NAMESPACE_URL, str(root)).hex, host)


def output(made: Job) -> str:
    return Path(made.log).read_text()


def run(place: Place, test: Callable[[ContainerRunner], Awaitable[None]]) -> None:
    """One life of a daemon, as far as its runner goes."""

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                engine = Engine({"DOCKER_HOST": place.host} if place.host else os.environ)
                children = Children()
                await nursery.start(children.run)
                pipes = OutputPipes(str(place.root), children)
                await nursery.start(pipes.run)
                runner = ContainerRunner(str(place.root / "state"), place.instance, engine, pipes)
                await nursery.start(engine.run)
                await nursery.start(runner.run)
                await test(runner)
                nursery.cancel_scope.cancel()

    trio.run(main)


async def finish(runner: ContainerRunner, made: Job, handle: ContainerHandle) -> Exit:
    how = await handle.wait()
    await handle.settle(0)
    handle.close()
    await runner.clean(made)
    return how


def assert_clean(place: Place) -> None:
    assert place.containers == []
    assert os.listdir(place.root / "state" / "containers") == []


def test_it_begins_only_after_the_start_signal_and_in_a_copy_of_its_own(place: Place) -> None:
    made = place.job("cat hello; echo mine > hello; echo $CUDA_VISIBLE_DEVICES", "cat hello")

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        assert handle.is_held
        assert output(made) == ""
        handle.begin("2,3")
        assert await finish(runner, made, handle) == Exit(begun=True, code=0)

    run(place, test)
    assert output(made) == "hello\n2,3\nmine\n"
    assert (place.root / "files" / "hello").read_text() == "hello\n"
    assert_clean(place)


@pytest.mark.parametrize("code", [0, 1, 126, 255])
def test_its_exit_code_is_that_of_the_command_that_failed(place: Place, code: int) -> None:
    made = place.job(f"(exit {code})", "echo next")

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        assert await finish(runner, made, handle) == Exit(begun=True, code=code)

    run(place, test)
    assert output(made) == ("" if code else "next\n")


def test_the_code_of_a_shell_that_was_killed_is_the_engines(place: Place) -> None:
    made = place.job("kill -9 $PPID; kill -9 $$; sleep 1000")

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        assert await finish(runner, made, handle) == Exit(begun=True, code=137)

    run(place, test)


def test_one_that_gets_no_start_signal_ends_without_having_begun(place: Place) -> None:
    made = place.job("echo no")

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        handle.close()
        assert not (await finish(runner, made, handle)).begun

    run(place, test)
    assert output(made) == ""
    assert_clean(place)


@pytest.fixture
def slow_shell(place: Place) -> Iterator[str]:
    """An image whose shell starts only when somebody opens the FIFO `gate` in the data directory."""
    name = f"riseml-test/slow-{place.instance[:8]}"
    shell = (
        r"printf '#!/bin/busybox sh\nread x </data/gate; exec /bin/busybox sh \"$@\"\n' >/bin/new"
    )
    made = f"riseml-test-{place.instance[:8]}"
    docker(
        "run",
        "--name",
        made,
        BUSYBOX,
        "sh",
        "-c",
        f"{shell}; chmod +x /bin/new; mv /bin/new /bin/sh",
    )
    docker("commit", made, name)
    docker("rm", made)
    os.mkfifo(place.root / "data" / "gate")
    yield name
    docker("rmi", name)


def test_one_whose_shell_has_not_come_up_can_be_abandoned(place: Place, slow_shell: str) -> None:
    """Nobody may wait for what the shell of an unwanted job does."""
    made = place.job("echo no")
    assert made.container
    made = made._replace(container=made.container._replace(image=image_id(slow_shell)))

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        handle.close()
        with trio.fail_after(10):
            assert not (await finish(runner, made, handle)).begun

    run(place, test)
    assert_clean(place)


def test_the_daemons_end_lets_what_runs_run_on_and_ends_what_was_held(place: Place) -> None:
    running = place.job("echo up; read x </data/fifo; echo on; exit 7")
    ended = place.job("echo ran; exit 3", attempt=2)
    held = place.job("echo no", attempt=3)
    unknown = place.job("echo no", attempt=4)
    jobs = (running, ended, held)
    os.mkfifo(place.root / "data" / "fifo")
    identities: list[JobIdentity] = []

    async def first(runner: ContainerRunner) -> None:
        handles = [await runner.start(made) for made in jobs]
        identities.extend(handle.identity for handle in handles)
        await runner.start(unknown)
        handles[0].begin("")
        handles[1].begin("")
        await handles[1].wait()

    async def second(runner: ContainerRunner) -> None:
        runner.remove_leftovers(dict(zip((made.key for made in jobs), identities, strict=True)))
        one, two, three = [
            await runner.adopt(made, identity)
            for made, identity in zip(jobs, identities, strict=True)
        ]
        assert await finish(runner, ended, two) == Exit(begun=True, code=3)
        assert await finish(runner, held, three) == Exit(begun=False, code=None)
        await trio.Path(place.root / "data" / "fifo").write_text("go\n")
        assert await finish(runner, running, one) == Exit(begun=True, code=7)

    run(place, first)
    assert len(place.containers) == 4
    run(place, second)
    run(place, _remove_leftovers)
    assert [output(made) for made in jobs] == ["up\non\n", "ran\n", ""]
    assert_clean(place)


async def _remove_leftovers(runner: ContainerRunner) -> None:
    """Return when nothing of jobs that nobody keeps is left."""
    for key in os.listdir(runner._jobs):
        await runner._clean(key)


@pytest.mark.parametrize("adopted", [False, True])
def test_a_deaf_and_forking_job_is_killed_with_all_that_it_started(
    place: Place, adopted: bool
) -> None:
    made = place.job(
        "trap '' TERM; (trap '' TERM; setsid sleep 1000 & sleep 1000 & wait) & echo up >/data/up; wait"
    )
    os.mkfifo(place.root / "data" / "up")
    identities: list[JobIdentity] = []

    async def begin(runner: ContainerRunner) -> ContainerHandle:
        handle = await runner.start(made)
        identities.append(handle.identity)
        handle.begin("")
        await trio.Path(place.root / "data" / "up").read_text()
        return handle

    async def first(runner: ContainerRunner) -> None:
        await begin(runner)

    async def end(runner: ContainerRunner) -> None:
        handle = await (runner.adopt(made, identities[0]) if adopted else begin(runner))
        assert len(handle.processes.pids()) >= 4
        await handle.kill(0.1)
        assert handle.processes.pids() == []
        assert await finish(runner, made, handle) == Exit(begun=True, code=137)

    if adopted:
        run(place, first)
    run(place, end)
    assert_clean(place)


def test_a_job_that_ends_when_it_is_asked_to_may_say_its_last_words(place: Place) -> None:
    made = place.job("trap 'echo bye; exit 4' TERM; echo up >/data/up; while :; do sleep 0.1; done")
    os.mkfifo(place.root / "data" / "up")

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        await trio.Path(place.root / "data" / "up").read_text()
        await handle.kill(30)
        assert await finish(runner, made, handle) == Exit(begun=True, code=4)

    run(place, test)
    assert output(made).endswith("bye\n")


def test_a_crash_while_it_was_made_is_no_hindrance(place: Place) -> None:
    """Its name is taken, its directory is there."""
    made = place.job("cat hello")

    async def twice(runner: ContainerRunner) -> None:
        await runner.start(made)
        handle = await runner.start(made)
        handle.begin("")
        assert await finish(runner, made, handle) == Exit(begun=True, code=0)

    run(place, twice)
    assert_clean(place)


def test_what_the_job_makes_is_its_users_and_its_data_are_not(place: Place) -> None:
    made = place.job(
        "id -u; id -g; touch /output/own; touch /data/x || true; mkdir more; echo $PYTHONPATH"
    )

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        await finish(runner, made, handle)

    run(place, test)
    lines = output(made).splitlines()
    assert lines[:2] == [str(os.getuid()), str(os.getgid())]
    assert "Read-only" in lines[2]
    assert lines[3] == "/.riseml/python"
    assert (place.root / "output" / "own").stat().st_uid == os.getuid()


def test_places_may_have_any_name(tmp_path: Path) -> None:
    need_engine()
    (tmp_path / "a:b, c=d").mkdir()
    place = _place(tmp_path / "a:b, c=d")
    made = place.job("cat hello; echo made >/output/made")

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(made)
        handle.begin("")
        assert await finish(runner, made, handle) == Exit(begun=True, code=0)

    run(place, test)
    assert output(made) == "hello\n"
    assert (place.root / "output" / "made").read_text() == "made\n"


def test_a_build_leaves_its_files_in_the_image_and_its_environment_out_of_it(place: Place) -> None:
    build = place.job("id -u >made; echo $TOKEN >>made; echo \"$QUOTED\" >>made", build=True,
                      TOKEN="secret", QUOTED="it's \"so\"")  # fmt: skip
    label = f"riseml.test={place.instance}"
    built = []

    async def test(runner: ContainerRunner) -> None:
        handle = await runner.start(build)
        handle.begin("")
        assert await handle.wait() == Exit(begun=True, code=0)
        image = await runner.commit(build, handle.identity, {"riseml.test": place.instance})
        built.append(image)
        handle.close()
        await runner.clean(build)
        assert await images.with_labels(runner._engine, label) == [image]
        made = place.job("cat made hello; stat -c %u made hello; pwd", attempt=2)
        assert made.container
        container = made.container._replace(image=image, has_code=True)
        handle = await runner.start(made._replace(container=container))
        handle.begin("")
        assert await finish(runner, made, handle) == Exit(begun=True, code=0)

    try:
        run(place, test)
        own = str(os.getuid())
        assert output(place.job(attempt=2)).splitlines() == [
            *("0", "secret", 'it\'s "so"', "hello", own, own, "/code"),
        ]
        shown = docker("image", "inspect", built[0])
        assert "secret" not in shown
        assert "NVIDIA" not in shown
        assert "PYTHONPATH" not in shown
        assert "secret" not in docker("image", "history", "--no-trunc", built[0])
    finally:
        for image in built:
            docker("rmi", "--force", image)


def test_an_image_that_nobody_has_is_a_clear_error(place: Place) -> None:
    async def test(runner: ContainerRunner) -> None:
        assert await images.find(runner._engine, "riseml-test/nothing") is None
        lines: list[str] = []
        with pytest.raises(ImageFailed, match=r"no\.such\.host\.invalid/x:1 cannot be pulled: "):
            await images.pull(runner._engine, "no.such.host.invalid/x:1", lines.append)
        assert lines == ["Pulling no.such.host.invalid/x:1"]

    run(place, test)


def test_an_engine_that_does_not_answer_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as silent:
        os.chdir(tmp_path)
        silent.bind("s")
        silent.listen()

        async def main() -> None:
            engine = Engine({"DOCKER_HOST": f"unix://{path}"}, patience=0.2)
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run)
                with pytest.raises(NoEngine, match=f"none answers at {path}"):
                    await engine.info()
                nursery.cancel_scope.cancel()

        trio.run(main)


@pytest.mark.parametrize(
    ("host", "text"),
    [("tcp://1.2.3.4:5", "is not on this machine"), ("unix:///nowhere/s", "/nowhere/s")],
)
def test_where_an_engine_was_looked_for_is_told(host: str, text: str) -> None:
    async def main() -> None:
        engine = Engine({"DOCKER_HOST": host})
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            with pytest.raises(NoEngine, match=text):
                await engine.info()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_an_engine_that_the_user_may_not_use_is_no_engine_to_start(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch(mode=0)
    user = os.getuid()
    os.setreuid(user or 65534, -1)  # root may use everything
    try:
        with pytest.raises(NoEngine) as caught:
            Engine({"DOCKER_HOST": f"unix://{path}"})._socket()
    finally:
        os.setreuid(user, -1)
    assert str(caught.value) == f"you may not use {path}; join the group docker and log in again"


def test_a_daemon_that_saw_no_image_does_without_asyncio() -> None:
    program = """
import sys, trio
from rised.runners.docker.engine import Engine
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(Engine().run)
        nursery.cancel_scope.cancel()
import rised.daemon
trio.run(main)
print(sorted({"aiodocker", "aiohttp", "trio_asyncio"} & sys.modules.keys()))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout == b"[]\n", told.stderr


@pytest.mark.slow
def test_many_jobs_leave_nothing_behind(place: Place) -> None:
    async def test(runner: ContainerRunner) -> None:
        async def one(attempt: int) -> None:
            made = place.job("exit 5", attempt=attempt)
            handle = await runner.start(made)
            handle.begin("")
            assert await finish(runner, made, handle) == Exit(begun=True, code=5)

        async def some(first: int) -> None:
            for attempt in range(first, first + 13):
                await one(attempt)

        await one(99)
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            for first in (100, 200, 300, 400):
                nursery.start_soon(some, first)
        assert len(os.listdir("/proc/self/fd")) <= before + 4  # connections that are kept open

    run(place, test)
    assert_clean(place)


@pytest.mark.slow
def test_an_engine_that_is_killed_and_comes_back_loses_no_job(tmp_path: Path) -> None:
    with own_engine() as engine:
        place = _place(tmp_path, engine.host)
        os.mkfifo(place.root / "data" / "fifo")
        jobs = [
            place.job("echo up; read x </data/fifo; exit 7", attempt=1),
            place.job("kill -9 $PPID; kill -9 $$; sleep 1000", attempt=2),
            place.job("trap '' TERM; echo up; sleep 1000", attempt=3),
        ]

        async def test(runner: ContainerRunner) -> None:
            one, two, three = [await runner.start(made) for made in jobs]
            one.begin("")
            three.begin("")
            await trio.to_thread.run_sync(engine.kill)
            with pytest.raises(NoEngine):
                await runner.start(place.job("echo", attempt=4))
            await three.kill(0.1)
            two.begin("")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, engine.start)
                # Only the engine knows the code of these.
                assert await two.wait() == Exit(begun=True, code=137)
                assert await three.wait() == Exit(begun=True, code=137)
            await trio.Path(place.root / "data" / "fifo").write_text("go\n")
            assert await one.wait() == Exit(begun=True, code=7)
            for made, handle in zip(jobs, (one, two, three), strict=True):
                handle.close()
                await runner.clean(made)
            await runner.clean(place.job("echo", attempt=4))

        run(place, test)
        assert_clean(place)


@pytest.mark.slow
def test_an_engine_that_counts_processes_otherwise_is_asked_instead(tmp_path: Path) -> None:
    """A pid that it tells is another process's here, which must come to no harm."""
    with own_engine("--pid", "--fork", "--mount-proc") as engine:
        place = _place(tmp_path, engine.host)
        os.mkfifo(place.root / "data" / "up")
        polite = place.job(
            "trap 'echo bye; exit 4' TERM; echo >/data/up; while :; do sleep 0.1; done"
        )
        deaf = place.job("trap '' TERM; echo >/data/up; while :; do sleep 1; done", attempt=2)
        plain = place.job("cat hello; exit 3", attempt=3)
        held = place.job("echo no", attempt=4)
        unwanted = place.job("echo no", attempt=5)
        identities: list[JobIdentity] = []

        async def test(runner: ContainerRunner) -> None:
            for made, code, grace in ((polite, 4, 30), (deaf, 137, 0.1)):
                handle = await runner.start(made)
                assert handle.identity.start == -1
                handle.begin("")
                await trio.Path(place.root / "data" / "up").read_text()
                await handle.kill(grace)
                assert await finish(runner, made, handle) == Exit(begun=True, code=code)
            handle = await runner.start(plain)
            handle.begin("")
            assert await finish(runner, plain, handle) == Exit(begun=True, code=3)
            handle = await runner.start(unwanted)
            handle.close()
            assert not (await finish(runner, unwanted, handle)).begun
            identities.append((await runner.start(held)).identity)

        async def again(runner: ContainerRunner) -> None:
            handle = await runner.adopt(held, identities[0])
            assert await finish(runner, held, handle) == Exit(begun=False, code=None)

        run(place, test)
        run(place, again)
        assert output(polite).endswith("bye\n")
        assert output(plain) == "hello\n"
        assert_clean(place)
