"""What is limited: time, attempts, and how much of the machine runs at once."""

import json
from collections.abc import Iterator

import pytest
from hostile import Stage, ends, mark

from riseml_proto.errors import Unsatisfiable
from riseml_proto.messages import LineEntry, StateEntry
from riseml_proto.states import Reason, State


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(
        tmp_path_factory.mktemp("limits"), gpus="0,2,3,5", cpus=4, mem=4000, kill_grace=0.2
    )
    try:
        made.begin()
        yield made
    finally:
        made.close()


def gated(stage: Stage, name: str, line: str = "up") -> str:
    """A command that tells that it runs, and ends when `open_gate` says so."""
    return f"mkfifo {stage.root}/{name}; echo {line}; read x < {stage.root}/{name}"


def open_gate(stage: Stage, name: str) -> None:
    (stage.root / name).write_text("go\n")


def states(stage: Stage, number: str) -> list[State]:
    return [member.state for member in stage.detail(number).experiments]


# Time.


def test_a_job_that_takes_too_long_is_ended_with_all_that_it_started(stage: Stage) -> None:
    token = mark()
    number = stage.submit(
        f"(trap '' TERM; setsid sleep {token} &) ; sleep {token}", time_limit="0.2s"
    )
    (end,) = ends(stage.follow(number))
    assert (end.state, end.reason) == (State.FAILED, Reason.TIME_LIMIT)
    assert end.message == "ran longer than 0.2 s"
    stage.assert_clean(token)


def test_a_job_within_its_time_is_left_alone(stage: Stage) -> None:
    number = stage.submit("exit 4", time_limit="1h")
    (end,) = ends(stage.follow(number))
    assert (end.reason, end.exit_code) == (Reason.ERROR, 4)


def test_each_attempt_has_the_whole_time(stage: Stage) -> None:
    token = mark()
    number = stage.submit(f"echo up; sleep {token}", time_limit="0.2s", retries=1)
    entries = stage.follow(number)
    assert [e.attempt for e in entries if isinstance(e, LineEntry) and e.text == "up"] == [1, 2]
    (end,) = ends(entries)
    assert end.reason == Reason.TIME_LIMIT
    stage.assert_clean(token)


# Attempts.


def test_each_attempt_has_a_number_a_log_and_a_fresh_copy(stage: Stage) -> None:
    number = stage.submit(
        "[ ! -e litter ] || echo dirty",
        ': > litter; n=$(ls "$OUTPUT_DIR" | wc -l); : > "$OUTPUT_DIR/$n"; echo try $n; [ $n = 3 ]',
        retries=5,
    )
    entries = stage.follow(number)
    told = [(e.attempt, e.text) for e in entries if isinstance(e, LineEntry)]
    assert told == [(1, "try 1"), (2, "try 2"), (3, "try 3")]
    seen = [e.state for e in entries if isinstance(e, StateEntry)]
    assert seen.count(State.RUNNING) == 3
    assert stage.detail(number).state is State.FINISHED
    logs = sorted(path.name for path in (stage.state / "logs" / number).glob("*.log"))
    assert logs == ["train.1.log", "train.2.log", "train.3.log"]
    messages = [entry.message or "" for entry in entries if isinstance(entry, StateEntry)]
    for attempt in (1, 2):
        assert any(text.startswith(f"attempt {attempt} failed: Command '") for text in messages)


def test_when_no_retry_is_left_it_has_failed_as_the_last_attempt_did(stage: Stage) -> None:
    number = stage.submit('n=$(ls "$OUTPUT_DIR" | wc -l); : > "$OUTPUT_DIR/$n"; exit $n', retries=2)
    entries = stage.follow(number)
    (end,) = ends(entries)
    assert (end.state, end.reason, end.exit_code) == (State.FAILED, Reason.ERROR, 3)


def test_one_of_a_set_is_tried_again_before_the_next_starts(stage: Stage) -> None:
    number = stage.submit(
        "echo $N; [ $N != 2 ]", parameters={"n": [1, 2, 3]}, retries=1, concurrency=1
    )
    assert stage.lines(number) == ["1", "2", "2", "3"]
    assert states(stage, number) == [State.FINISHED, State.FAILED, State.FINISHED]
    assert stage.detail(number).state is State.FINISHED


def test_who_is_killed_is_not_tried_again(stage: Stage) -> None:
    token = mark()
    number = stage.submit(f"echo up; sleep {token}", retries=3)
    stage.wait_for_line(number, "up")
    stage.kill(number)
    assert stage.lines(number).count("up") == 1
    stage.assert_clean(token)


# The machine.


def test_jobs_that_run_at_once_see_gpus_that_no_other_sees(stage: Stage) -> None:
    command = gated(stage, "gpus{{n}}", "$CUDA_DEVICE_ORDER=$CUDA_VISIBLE_DEVICES")
    number = stage.submit(
        command, parameters={"n": [1, 2, 3]}, concurrency=3, resources={"gpus": 2}
    )
    stage.wait_for_line(f"{number}.1", "PCI_BUS_ID=0,2")
    stage.wait_for_line(f"{number}.2", "PCI_BUS_ID=3,5")
    assert [m.gpus for m in stage.detail(number).experiments] == [[0, 2], [3, 5], []]
    assert {gpu.index: gpu.used_by for gpu in stage.system().gpus} == {
        0: f"{number}.1",
        2: f"{number}.1",
        3: f"{number}.2",
        5: f"{number}.2",
    }
    assert stage.member(number, 3).reason == "waits for 2 GPUs (0 free)"
    open_gate(stage, "gpus2")
    stage.wait_for_line(f"{number}.3", "PCI_BUS_ID=3,5")
    for gate in ("gpus1", "gpus3"):
        open_gate(stage, gate)
    assert stage.wait_for_end(number) is State.FINISHED
    stage.assert_clean(mark())


def test_a_job_that_asks_for_no_gpu_sees_none(stage: Stage) -> None:
    number = stage.submit('echo "<${CUDA_VISIBLE_DEVICES-unset}>"')
    assert stage.lines(number) == ["<>"]


@pytest.mark.parametrize(
    ("resources", "lacks"),
    [
        ({"gpus": 5}, "5 GPUs (4 in this machine)"),
        ({"cpus": 4.5}, "4.5 CPUs (4 in this machine)"),
        ({"mem": "1TiB"}, "1048576 MiB of memory (4000 in this machine)"),
        ({"gpus": 9, "cpus": 8}, "9 GPUs (4 in this machine), 8 CPUs (4 in this machine)"),
    ],
)
def test_what_can_never_fit_is_refused_with_the_numbers(
    stage: Stage, resources: dict[str, object], lacks: str
) -> None:
    with pytest.raises(Unsatisfiable) as caught:
        stage.submit("true", resources=resources)
    assert str(caught.value).startswith(f"riseml.yml: train.resources: asks for {lacks}")
    text = json.dumps({"project": "p", "train": {"run": "true", "resources": resources}})
    done = stage.run("train", cwd=stage.project(text), check=False)
    assert done.returncode == 2
    assert f"riseml: riseml.yml: train.resources: asks for {lacks}" in done.stderr


def test_first_come_first_served_whatever_the_sizes(stage: Stage) -> None:
    """A large job keeps its place: what came after it does not overtake it, but for what shares nothing with it."""
    first = stage.submit(gated(stage, "first"), resources={"gpus": 2})
    stage.wait_for_line(first, "up")
    large = stage.submit(gated(stage, "large"), resources={"gpus": 4})
    small = stage.submit("echo small", resources={"gpus": 1})
    beside = stage.submit("echo beside", resources={"cpus": 1})
    assert stage.wait_for_end(beside) is State.FINISHED
    assert stage.detail(large).reason == "waits for 4 GPUs (2 free)"
    assert stage.detail(small).reason == f"waits for its turn after {large}"
    open_gate(stage, "first")
    stage.wait_for_line(large, "up")
    assert states(stage, small) == [State.PENDING]
    assert stage.detail(small).reason == "waits for 1 GPU (0 free)"
    open_gate(stage, "large")
    assert stage.lines(small) == ["small"]


def test_cpus_and_memory_are_handed_out_as_gpus_are(stage: Stage) -> None:
    first = stage.submit(gated(stage, "cpus"), resources={"cpus": 2.5, "mem": 3000})
    stage.wait_for_line(first, "up")
    assert (stage.system().cpus.used, stage.system().memory.used) == (2.5, 3000)
    cpus = stage.submit("true", resources={"cpus": 2})
    mem = stage.submit("true", resources={"mem": 1001})
    fits = stage.submit("echo fits", resources={"mem": 1})
    assert stage.detail(cpus).reason == "waits for 2 CPUs (1.5 free)"
    assert stage.detail(mem).reason == "waits for 1001 MiB of memory (1000 free)"
    assert stage.detail(fits).state is State.PENDING
    open_gate(stage, "cpus")
    for number in (first, cpus, mem, fits):
        assert stage.wait_for_end(number) is State.FINISHED


def test_a_set_runs_as_many_at_once_as_its_concurrency_says(stage: Stage) -> None:
    number = stage.submit(
        gated(stage, "set{{n}}", "up {{n}}"), parameters={"n": [1, 2, 3, 4]}, concurrency=2
    )
    for member in (1, 2):
        stage.wait_for_line(f"{number}.{member}", f"up {member}")
    assert states(stage, number)[2:] == [State.CREATED, State.CREATED]
    assert stage.member(number, 3).reason == f"waits for one of {number}'s 2 slots"
    for done, comes in ((1, 3), (3, 4)):
        open_gate(stage, f"set{done}")
        stage.wait_for_line(f"{number}.{comes}", f"up {comes}")
        running = [n + 1 for n, s in enumerate(states(stage, number)) if s is State.RUNNING]
        assert running == [2, comes]
    for last in (2, 4):
        open_gate(stage, f"set{last}")
    assert stage.wait_for_end(number) is State.FINISHED


def test_without_concurrency_one_runs_after_the_other(stage: Stage) -> None:
    number = stage.submit(
        "mkdir $OUTPUT_DIR/../busy && echo $N && rmdir $OUTPUT_DIR/../busy",
        parameters={"n": [1, 2, 3, 4]},
    )
    assert stage.lines(number) == ["1", "2", "3", "4"]
