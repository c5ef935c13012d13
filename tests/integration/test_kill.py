"""Killing: one, all, twice, by force, and what must not be killed by it."""

import json
import os
import pwd
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile import Stage, ends, mark

from riseml_proto.states import Reason, State

USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("kill"), gpus=2, kill_grace=20)
    try:
        made.begin()
        yield made
    finally:
        made.close()


def test_one_of_a_set_is_killed_and_the_set_goes_on(stage: Stage) -> None:
    token = mark()
    number = stage.submit(
        f"echo up; [ $N != 2 ] || sleep {token}", parameters={"n": [1, 2, 3]}, concurrency=1
    )
    stage.wait_for_line(f"{number}.2", "up")
    done = stage.run("kill", f"{number}.2")
    assert done.stdout == f"killed experiment {number}.2\n"
    assert stage.wait_for_end(number) is State.FINISHED
    states = [(m.state, m.reason) for m in stage.detail(number).experiments]
    assert states == [
        (State.FINISHED, Reason.COMPLETED),
        (State.KILLED, Reason.KILLED),
        (State.FINISHED, Reason.COMPLETED),
    ]
    stage.assert_clean(token)


def test_a_whole_set_is_killed_also_what_has_not_started(stage: Stage) -> None:
    token = mark()
    number = stage.submit(
        f"echo up; sleep {token}", parameters={"n": [1, 2, 3, 4, 5]}, concurrency=2
    )
    for member in (1, 2):
        stage.wait_for_line(f"{number}.{member}", "up")
    assert stage.run("kill", number).stdout == f"killed experiment {number}\n"
    detail = stage.detail(number)
    assert (detail.state, detail.reason, detail.counts) == (State.KILLED, "KILLED", {"KILLED": 5})
    assert {m.state for m in detail.experiments} == {State.KILLED}
    assert [m.started_at is not None for m in detail.experiments] == [
        True,
        True,
        False,
        False,
        False,
    ]
    stage.assert_clean(token)


def test_one_that_waits_is_killed_without_ever_starting(stage: Stage) -> None:
    token = mark()
    first = stage.submit(f"echo up; sleep {token}", resources={"gpus": 2})
    second = stage.submit("echo no", resources={"gpus": 1})
    third = stage.submit("echo yes", parameters={"n": [1, 2]}, resources={"gpus": 1})
    stage.wait_for_line(first, "up")
    assert stage.detail(second).reason == "waits for 1 GPU (0 free)"
    assert stage.kill(second, f"{third}.2").killed == [second, f"{third}.2"]
    assert stage.detail(second).state is State.KILLED
    stage.kill(first)
    assert stage.wait_for_end(third) is State.FINISHED
    assert stage.lines(second) == []
    assert stage.lines(third) == ["yes"]
    stage.assert_clean(token)


def test_a_set_of_which_each_is_killed_is_killed(stage: Stage) -> None:
    token = mark()
    number = stage.submit(f"echo up; sleep {token}", parameters={"n": [1, 2]}, concurrency=1)
    stage.wait_for_line(f"{number}.1", "up")
    assert stage.kill(f"{number}.2", f"{number}.1").killed == [f"{number}.2", f"{number}.1"]
    assert stage.detail(number).state is State.KILLED
    stage.assert_clean(token)


def test_who_kills_again_waits_for_the_same_end(stage: Stage) -> None:
    token = mark()
    number = stage.submit(
        f"mkfifo $OUTPUT_DIR/f; trap 'echo asked; read x < $OUTPUT_DIR/f; exit' TERM;"
        f" echo up; sleep {token} & wait"
    )
    stage.wait_for_line(number, "up")
    with ThreadPoolExecutor() as pool:
        kills = [pool.submit(stage.kill, number) for _ in range(5)]
        stage.wait_for_line(number, "asked")
        assert not any(kill.done() for kill in kills)
        (stage.output / USER / "p" / number / "f").write_text("now\n")
        assert [kill.result().killed for kill in kills] == [[number]] * 5
    assert [entry.state for entry in ends(stage.follow(number))] == [State.KILLED]
    stage.assert_clean(token)


def test_force_cuts_the_grace_of_an_earlier_kill_short(stage: Stage) -> None:
    token = mark()
    number = stage.submit(
        f"trap 'echo asked' TERM; echo up; while :; do sleep {token} & wait || true; done"
    )
    stage.wait_for_line(number, "up")
    with ThreadPoolExecutor() as pool:
        patient = pool.submit(stage.kill, number)
        stage.wait_for_line(number, "asked")
        assert not patient.done()
        forced = pool.submit(stage.kill, number, force=True)
        assert forced.result(timeout=10).killed == [number]
        assert patient.result(timeout=10).killed == [number]
    stage.assert_clean(token)


def test_force_cuts_the_grace_of_what_is_left_behind_short(stage: Stage) -> None:
    token = mark()
    deaf = f"mkfifo f; (trap '' TERM; echo up; echo > f; exec sleep {token}) &"
    number = stage.submit(f"{deaf} read x < f; exit 0", resources={"gpus": 2})
    stage.wait_for_line(number, "up")
    assert [gpu.used_by for gpu in stage.system().gpus] == [number, number]
    with ThreadPoolExecutor() as pool:
        forced = pool.submit(stage.kill, number, force=True)
        assert forced.result(timeout=10).killed == [number]
    stage.assert_clean(token)


def test_what_has_ended_is_said_to_have_ended_and_stays_as_it_was(stage: Stage) -> None:
    number = stage.submit("exit 3")
    stage.wait_for_end(number)
    done = stage.run("kill", number)
    assert done.stdout == f"experiment {number} has already ended\n"
    member = stage.member(number)
    assert (member.state, member.exit_code) == (State.FAILED, 3)
    group = stage.submit("true", parameters={"n": [1, 2]})
    stage.wait_for_end(group)
    assert stage.kill(f"{group}.1", group).ended == [f"{group}.1", group]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("9999", "there is no experiment 9999; riseml status -a lists all"),
        ("NUMBER.3", "there is no NUMBER.3: NUMBER has 2 sub-experiments"),
        ("NUMBER.0", "'NUMBER.0' is not an ID; IDs look like 144, 144.2 or 144.2.train"),
        ("12x.", "'12x.' is not an ID; IDs look like 144, 144.2 or 144.2.train"),
        ("nobody.NUMBER", "nobody has no experiment NUMBER"),
        (USER, f"{USER} names a user; say which experiment, such as {USER}.144"),
        ("nobodys", "there is no user 'nobodys'; IDs look like 144 or 144.2"),
        ("", "'' is not an ID; IDs look like 144, 144.2 or 144.2.train"),
    ],
)
def test_where_one_id_is_wrong_nothing_is_killed(stage: Stage, bad: str, says: str) -> None:
    token = mark()
    number = stage.submit(f"echo up; sleep {token}", parameters={"n": [1, 2]})
    stage.wait_for_line(f"{number}.1", "up")
    done = stage.run("kill", number, bad.replace("NUMBER", number), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"riseml: {says.replace('NUMBER', number)}\n"
    assert stage.member(number, 1).state is State.RUNNING
    stage.kill(number, force=True)
    stage.assert_clean(token)


def test_without_an_id_the_last_of_the_project_is_killed(stage: Stage) -> None:
    token = mark()
    here = stage.project(f"project: here\ntrain:\n  run: echo up; sleep {token}\n")
    first, mine = (
        json.loads(stage.run("train", "-d", "--json", cwd=here).stdout)["id"] for _ in range(2)
    )
    other = stage.submit(f"echo up; sleep {token}")
    stage.wait_for_line(mine, "up")
    assert stage.run("kill", cwd=here).stdout == f"killed experiment {mine}\n"
    assert stage.detail(other).state is not State.KILLED
    (stage.root / "elsewhere").mkdir(exist_ok=True)
    assert stage.run("kill", cwd=stage.root / "elsewhere").stdout == f"killed experiment {other}\n"
    stage.kill(first)
    stage.assert_clean(token)


def test_one_job_of_it_may_be_named_too(stage: Stage) -> None:
    token = mark()
    number = stage.submit(f"echo up; sleep {token}")
    stage.wait_for_line(number, "up")
    assert stage.kill(f"{USER}.{number}.train").killed == [f"{USER}.{number}.train"]
    stage.assert_clean(token)


def test_the_same_id_twice_is_killed_once(stage: Stage) -> None:
    token = mark()
    number = stage.submit(f"echo up; sleep {token}")
    stage.wait_for_line(number, "up")
    assert set(stage.kill(number, number).killed) == {number}
    assert len(ends(stage.follow(number))) == 1
    stage.assert_clean(token)
