"""Jobs that are started ahead of their turn: only those that may still start, and they never begin by themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rised.policy.outcome import KillMode
from tests.daemon.test_model import riseml_yml
from tests.daemon.world import Theatre


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    """One GPU, which experiment 1 holds."""
    made = Theatre(str(tmp_path))
    made.boot(1)
    submit(made, 0)
    assert len(made.world.alive()) == 1
    yield made
    assert not made.failed
    made.close()


def submit(theatre: Theatre, members: int) -> None:
    text = riseml_yml(members, resources="{gpus: 1}")
    assert theatre.ask(lambda daemon: daemon.submit(text)).came


def held(theatre: Theatre) -> list[str]:
    return [process.key[0] for process in theatre.world.processes.values() if not process.begun]


def test_the_next_of_each_experiment_is_held_and_begins_when_its_turn_comes(
    theatre: Theatre,
) -> None:
    submit(theatre, 2)
    submit(theatre, 0)
    assert held(theatre) == ["2.1.train", "3.train"]
    (blocker,) = theatre.world.alive()
    theatre.do(lambda: blocker.die(0))
    assert [process.key for process in theatre.world.alive()] == [("2.1.train", 1)]


def test_what_is_killed_or_paused_is_held_no_longer(theatre: Theatre) -> None:
    for members in (2, 0, 0):
        submit(theatre, members)
    theatre.ask(lambda daemon: daemon.scheduler.killer.kill(2, 1, KillMode.GRACEFUL))
    theatre.ask(lambda daemon: daemon.scheduler.killer.kill(3, None, KillMode.GRACEFUL))
    assert sorted(held(theatre)) == ["2.2.train", "4.train"]
    theatre.ask(lambda daemon: daemon.change(4, paused=1))
    assert held(theatre) == ["2.2.train"]
    theatre.ask(lambda daemon: daemon.change(4, paused=0))
    assert sorted(held(theatre)) == ["2.2.train", "4.train"]


def test_no_more_are_held_than_a_machine_can_bear_and_the_first_in_line_are(
    theatre: Theatre,
) -> None:
    for _ in range(6):
        submit(theatre, 0)
    assert held(theatre) == ["2.train", "3.train", "4.train", "5.train"]
    theatre.ask(lambda daemon: daemon.change(7, priority=1))
    assert sorted(held(theatre)) == ["2.train", "3.train", "4.train", "7.train"]
