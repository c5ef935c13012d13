"""Which errors pass by themselves, how long to wait for that, and what a shell says that could not fork."""

import errno

import pytest

from rised.policy.shortage import LONGEST_PAUSE, could_not_fork, is_of_the_machine, passes, pause


@pytest.mark.parametrize(
    "name",
    [
        "EAGAIN",
        "ENOMEM",
        "EMFILE",
        "ENFILE",
        "EIO",
        "EROFS",
        "ESTALE",
        "ENOSPC",
        "EDQUOT",
        "ENOTCONN",
        "ENODEV",
    ],
)
def test_a_shortage_passes(name: str) -> None:
    assert passes(getattr(errno, name))


@pytest.mark.parametrize(
    "name", ["ENOENT", "EACCES", "EPERM", "ENOTDIR", "ENAMETOOLONG", "ELOOP", "E2BIG"]
)
def test_what_is_wrong_stays_wrong(name: str) -> None:
    assert not passes(getattr(errno, name))
    assert not passes(None)


def test_only_what_every_job_meets_holds_up_all_of_them() -> None:
    assert is_of_the_machine(errno.EAGAIN)
    assert not is_of_the_machine(errno.EROFS)


def test_pauses_grow_to_a_bound() -> None:
    assert [pause(tries) for tries in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pause(10**6) == LONGEST_PAUSE


DASH = b"riseml: 1: eval: Cannot fork\n"
BASH = b"riseml: fork: retry: Resource temporarily unavailable\n" * 3 + (
    b"riseml: line 1: fork: Resource temporarily unavailable\n"
)


@pytest.mark.parametrize(("code", "output"), [(2, DASH), (254, BASH)])
def test_a_program_that_the_shell_could_not_fork_never_ran(code: int, output: bytes) -> None:
    assert could_not_fork(["python train.py --lr 0.1"], code, output)
    assert could_not_fork(["python train.py --out $OUTPUT_DIR --lr ${LR}"], code, output)


@pytest.mark.parametrize(
    "commands",
    [
        ["a; b"],
        ["a && b"],
        ["a\nb"],
        ["a | b"],
        ["a $(b)"],
        ["a `b`"],
        ["a > b"],
        ["(a)"],
        ["a", "b"],
    ],
)
def test_of_several_commands_some_may_have_run(commands: list[str]) -> None:
    assert not could_not_fork(commands, 2, DASH)


@pytest.mark.parametrize(
    ("code", "output"), [(1, DASH), (2, b""), (2, b"epoch 1\n" + DASH), (None, DASH)]
)
def test_a_job_that_said_anything_else_has_run(code: int | None, output: bytes) -> None:
    assert not could_not_fork(["python train.py"], code, output)
