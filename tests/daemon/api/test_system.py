"""What the daemon says of its machine and of itself."""

import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
import trio

from rised.api import system
from rised.http.request import Answer, Request
from rised.users.peer import Peer
from riseml_proto.messages import System
from tests.daemon.world import Life, World

ME = Peer(1, os.getuid(), os.getgid(), "u")


def no_body() -> AsyncIterator[bytes]:
    raise AssertionError("nobody should read it")


@pytest.mark.parametrize("runner", ["auto", "process", "docker"])
def test_the_runner_is_the_one_that_the_daemon_was_given(
    tmp_path: Path, runner: Literal["auto", "process", "docker"]
) -> None:
    world = World(str(tmp_path))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            life = Life(world, 2, nursery)
            with closing(life.database):
                life.context.services.settings.runner = runner
                request = Request(
                    method="GET", path="/v1/system", query={}, headers={}, peer=ME, body=no_body
                )
                answer = await system.system(life.context, request)
            assert isinstance(answer, Answer)
            assert isinstance(answer.message, System)
            assert answer.message.runner == runner

    with world.in_place():
        trio.run(main)
