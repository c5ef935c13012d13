"""Usage, monitor and kill of a job that has no processes on the daemon's machine."""

import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import trio
import trio.testing

from rised.api import usage
from rised.http.request import Answer, Request
from rised.policy.outcome import KillMode
from rised.users.peer import Peer
from riseml.commands.usage_view import Rates, job_lines
from riseml_proto.messages import Usage
from riseml_proto.states import State
from tests.daemon.world import Life, World

ME = Peer(1, os.getuid(), os.getgid(), "u")
CONFIG = "project: far\ntrain:\n  resources: {gpus: 1, cpus: 2}\n  run: python train.py\n"


async def ask_for_usage(life: Life) -> Usage:
    def no_body() -> AsyncIterator[bytes]:
        raise AssertionError("nobody should read it")

    request = Request(method="GET", path="/v1/usage", query={}, headers={}, peer=ME, body=no_body)
    answer = await usage.show(life.context, request)
    assert isinstance(answer, Answer)
    assert isinstance(answer.message, Usage)
    return answer.message


def test_a_job_without_local_processes_is_shown_without_figures_and_can_be_killed(
    tmp_path: Path,
) -> None:
    world = World(str(tmp_path))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            life = Life(world, 2, nursery)
            with closing(life.database):
                nursery.start_soon(life.scheduler.run)
                number = await life.submit(CONFIG)
                await trio.testing.wait_all_tasks_blocked()
                (process,) = world.alive()

                now = await ask_for_usage(life)
                (job,) = now.jobs
                assert (job.id, job.state, job.gpus) == (str(number), State.RUNNING, [0])
                assert (job.cpu_seconds, job.memory, job.processes) == (0, 0, 0)
                rates = Rates()
                rates.of(now)
                (_, line) = job_lines(now, rates.of(now))
                assert line.split()[:4] == [str(number), "far", "RUNNING", "-/8"]

                await life.scheduler.killer.kill(number, None, KillMode.GRACEFUL)
                await trio.testing.wait_all_tasks_blocked()
                assert not process.there
                assert (await ask_for_usage(life)).jobs == []
                nursery.cancel_scope.cancel()

    with world.in_place():
        trio.run(main)
