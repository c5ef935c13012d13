"""What a kill interrupts, on a clock that jumps."""

import math

import pytest
import trio
from trio.testing import MockClock

from rised.execution.kill_switch import KillSwitch
from rised.policy.outcome import KillMode

GRACE = 10.0


async def ending(switch: KillSwitch, *kills: tuple[float, KillMode]) -> list[float]:
    """Let each call of `end` take twice its grace; return the graces that it was called with."""
    graces = []

    async def end(grace: float) -> None:
        graces.append(grace)
        await trio.sleep(2 * grace)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(switch.with_grace, end)
        for after, mode in kills:
            await trio.sleep(after)
            switch.kill(mode)
    return graces


@pytest.mark.parametrize(
    ("before", "kills", "graces"),
    [
        (KillMode.NONE, [], [GRACE]),
        (KillMode.GRACEFUL, [], [GRACE]),
        (KillMode.FORCE, [], [0]),
        (KillMode.GRACEFUL, [(1, KillMode.GRACEFUL)], [GRACE]),
        (KillMode.GRACEFUL, [(1, KillMode.FORCE)], [GRACE, 0]),
        (KillMode.NONE, [(1, KillMode.GRACEFUL), (1, KillMode.FORCE)], [GRACE, 0]),
    ],
)
def test_a_kill_by_force_alone_cuts_the_grace_off(
    before: KillMode, kills: list[tuple[float, KillMode]], graces: list[float]
) -> None:
    switch = KillSwitch(before, GRACE)
    assert trio.run(ending, switch, *kills, clock=MockClock(autojump_threshold=0)) == graces


def test_the_higher_mode_stays() -> None:
    switch = KillSwitch(KillMode.NONE, GRACE)
    for mode in (KillMode.GRACEFUL, KillMode.FORCE, KillMode.GRACEFUL):
        switch.kill(mode)
    assert switch.mode is KillMode.FORCE


@pytest.mark.parametrize("before", KillMode)
def test_waiting_ends_with_a_kill_and_at_once_after_one(before: KillMode) -> None:
    switch = KillSwitch(before, GRACE)

    async def wait() -> float:
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def kill_later() -> None:
                await trio.sleep(5)
                switch.kill(KillMode.GRACEFUL)

            nursery.start_soon(kill_later)
            with switch.until_killed():
                await trio.sleep(math.inf)
            nursery.cancel_scope.cancel()
        return trio.current_time() - begin

    waited = trio.run(wait, clock=MockClock(autojump_threshold=0))
    assert waited == pytest.approx(0 if before else 5)
