"""What a running daemon charges its users, and what it keeps of that when it dies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from riseml_proto.errors import StorageFull
from tests.daemon.test_model import riseml_yml
from tests.daemon.world import GRACE, Life, Theatre

UID = 0


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    made = Theatre(str(tmp_path))
    made.boot(4)
    yield made
    assert not made.failed
    made.close()


def submit(theatre: Theatre, **train: object) -> None:
    text = riseml_yml(0, resources="{gpus: 2}", **train)
    assert theatre.ask(lambda daemon: daemon.submit(text)).came


def end(theatre: Theatre, code: int | None) -> None:
    (process,) = theatre.world.alive()
    theatre.do(lambda: process.die(code))


def used(theatre: Theatre) -> float:
    """GPU-seconds in the database."""
    known = theatre.look(lambda daemon: daemon.database.usage.all())
    return known[UID].gpu_seconds if known else 0.0


def test_a_job_is_charged_when_it_ends(theatre: Theatre) -> None:
    submit(theatre)
    theatre.jump(100)
    assert used(theatre) == 0
    end(theatre, 0)
    assert used(theatre) == pytest.approx(200, rel=0.01)


def test_each_attempt_is_charged_once(theatre: Theatre) -> None:
    submit(theatre, retries=1)
    theatre.jump(100)
    end(theatre, 1)
    assert used(theatre) == pytest.approx(200, rel=0.01)
    theatre.jump(50)
    end(theatre, 1)
    assert used(theatre) == pytest.approx(300, rel=0.01)


def test_a_crash_before_the_end_is_written_charges_neither_twice_nor_nothing(
    theatre: Theatre,
) -> None:
    submit(theatre)
    theatre.jump(100)
    theatre.crash()
    end(theatre, 0)
    for point in range(1, 8):  # it dies again, ever later on its way
        theatre.world.crash_in = point
        theatre.boot(4)
        if theatre.world.daemon is not None:
            theatre.crash()
    theatre.boot(4)
    assert used(theatre) == pytest.approx(200, rel=0.01)


def test_one_that_the_machine_lost_costs_nothing(theatre: Theatre) -> None:
    submit(theatre)
    theatre.jump(100)
    theatre.crash()
    theatre.do(theatre.world.reboot)
    theatre.jump(86_400)
    theatre.boot(4)
    assert used(theatre) == 0


def test_a_gpu_that_is_out_of_use_is_nothing_to_wait_for(theatre: Theatre) -> None:
    submit(theatre, time_limit=100)

    def expected(daemon: Life) -> float | None:
        states = daemon.scheduler.unfinished.states.values()
        (seconds,) = daemon.scheduler.accounting.forecast(states)().values()
        return seconds

    large = riseml_yml(0, resources="{gpus: 4}")
    assert theatre.ask(lambda daemon: daemon.submit(large)).came
    assert theatre.look(expected) == pytest.approx(100 + GRACE)
    theatre.look(lambda daemon: daemon.scheduler.inventory.unavailable_gpus.add(0))
    assert theatre.look(expected) is None
    theatre.look(lambda daemon: daemon.scheduler.inventory.unavailable_gpus.clear())
    end(theatre, 0)
    end(theatre, 0)


def test_a_full_disk_drains_nothing(theatre: Theatre) -> None:
    theatre.world.disk_full = True
    answer = theatre.ask(lambda daemon: daemon.scheduler.drain("x"))
    assert isinstance(answer.error, StorageFull)
    theatre.world.disk_full = False
    submit(theatre)
    assert len(theatre.world.alive()) == 1
    end(theatre, 0)
