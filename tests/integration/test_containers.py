"""Experiments in containers of a real engine, by the real command."""

import grp
import os
import pwd
import re
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from box import Box
from engine import BUSYBOX, PYTHON, containers, docker, gone, need_python, own_engine

from riseml_proto.messages import StateEntry
from riseml_proto.states import Reason, State

pytestmark = pytest.mark.slow  # each of them waits for a real engine, or a real TensorBoard


@pytest.fixture
def box(make_engine_box: Callable[..., Box]) -> Box:
    made = make_engine_box(gpus=4, cpus=8, mem=32768)
    made.start()
    return made


def yml(run: str, more: str = "", image: str = BUSYBOX) -> str:
    return f"project: boxed\ntrain:\n  image: {image}\n  run: {run}\n{more}"


def output(box: Box, target: str) -> list[str]:
    """The lines of a job."""
    return box.run("logs", "--raw", target).stdout.splitlines()


def changes(box: Box, target: str) -> list[tuple[str, str]]:
    """ID and state of every change of state since the submission."""
    found = box.entries(target, opening=True)
    return [(e.id, str(e.state)) for e in found if isinstance(e, StateEntry)]


def states(box: Box, target: str) -> list[str]:
    """The same of an experiment without parameters."""
    return [state for _, state in changes(box, target)]


def last(box: Box, target: str) -> Any:
    """The last state of an experiment without parameters."""
    return [e for e in box.entries(target) if hasattr(e, "reason")][-1]


def test_a_job_finds_its_files_its_places_and_its_user(box: Box) -> None:
    box.data.mkdir(exist_ok=True)
    (box.data / "set").write_text("given\n")
    number = box.train(
        yml(
            "pwd; cat hello; cat /data/set; touch /data/x || true; echo made > $OUTPUT_DIR/made; id -u;"
            " touch own && echo writable; head -c 17 /proc/1/cmdline; echo; echo $EXPERIMENT_ID"
        ),
        hello="hi\n",
    )
    assert box.wait_for_end(number) is State.FINISHED
    lines = output(box, number)
    assert lines[:3] == ["/code", "hi", "given"]
    assert "Read-only" in lines[3]
    assert lines[4:] == [str(os.getuid()), "writable", "/sbin/docker-init", number]
    detail: Any = box.json("status", number)
    made = box.output / detail["user"] / "boxed" / number / "made"
    assert made.read_text() == "made\n"
    assert made.stat().st_uid == os.getuid()
    assert gone(box.root)
    assert os.listdir(box.state / "containers") == []


def test_an_image_without_any_user_knows_the_jobs(box: Box) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    number = box.train(yml("whoami; id -gn; cat /etc/passwd | wc -l; echo ~; echo $HOME"))
    assert box.wait_for_end(number) is State.FINISHED
    group = grp.getgrgid(os.getgid()).gr_name
    lines = len({name, "root"})
    assert output(box, number) == [name, group, str(lines), "/code", "/code"]


def test_its_exit_code_is_the_jobs(box: Box) -> None:
    number = box.train(yml("exit 7"))
    assert box.wait_for_end(number) is State.FAILED
    assert last(box, number).exit_code == 7


def test_declared_gpus_are_named_and_without_any_none_are_seen(box: Box) -> None:
    text = "echo $CUDA_VISIBLE_DEVICES. $NVIDIA_VISIBLE_DEVICES."
    with_gpus = box.train(yml(text, "  resources: {gpus: 2}\n"))
    box.wait_for_end(with_gpus)
    without = box.train(yml(text))
    box.wait_for_end(without)
    assert output(box, with_gpus) == ["0,1. ."]
    assert output(box, without) == [". void."]


def test_guarantees_limits_and_shared_memory_are_the_engines(box: Box) -> None:
    number = box.train(
        yml(
            "echo up; sleep 1000",
            "  resources: {cpus: 1, mem: 64, shm_size: 128}\n  limits: {cpus: 1, mem: 128}\n",
        )
    )
    box.wait_for_line(number, "up")
    (container,) = containers(box.root)
    shown = docker(
        "inspect",
        "--format",
        "{{with .HostConfig}}{{.CpuShares}} {{.MemoryReservation}} {{.NanoCpus}} {{.Memory}}"
        " {{.ShmSize}} {{.Privileged}} {{.Init}} {{.SecurityOpt}}{{end}}",
        container,
    )
    mib = 1 << 20
    assert shown == (
        f"1024 {64 * mib} 1000000000 {128 * mib} {128 * mib} false true [no-new-privileges]"
    )


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize(
    "run",
    [
        "echo up; sleep 1000",
        "\"trap '' TERM; echo up; while :; do sleep 1000; done\"",
        "(setsid sleep 1000 &); echo up; sleep 1000",
    ],
)
def test_kill_leaves_nothing_of_it(box: Box, run: str, force: bool) -> None:
    number = box.train(yml(run))
    box.wait_for_line(number, "up")
    box.run("kill", *(["-f"] if force else []), number)
    assert last(box, number).state is State.KILLED
    assert not [line for line in box.processes().values() if "1000" in line]
    assert gone(box.root)


def test_a_paused_container_dies_too(box: Box) -> None:
    number = box.train(yml("echo up; sleep 1000"))
    box.wait_for_line(number, "up")
    (container,) = containers(box.root)
    docker("pause", container)
    box.run("kill", "-f", number)
    assert gone(box.root)


def test_time_is_over_for_containers_too(box: Box) -> None:
    number = box.train(yml("sleep 1000", "  time_limit: 1s\n"))
    assert box.wait_for_end(number) is State.FAILED
    assert last(box, number).reason == Reason.TIME_LIMIT


def test_kill_9_of_the_daemon_costs_no_byte_and_no_exit_code(box: Box) -> None:
    box.data.mkdir(exist_ok=True)
    os.mkfifo(box.data / "go")
    number = box.train(
        yml("echo one; read x < /data/go; echo two; echo three; exit 5", "  retries: 0\n")
    )
    box.wait_for_line(number, "one")
    box.kill_daemon()
    (container,) = containers(box.root)
    (box.data / "go").write_text("go\n")  # it ends while nobody watches
    docker("wait", container)
    box.start()
    assert last(box, number).exit_code == 5
    assert output(box, number) == ["one", "two", "three"]
    assert gone(box.root)


def test_a_running_container_is_taken_back(box: Box) -> None:
    box.data.mkdir(exist_ok=True)
    os.mkfifo(box.data / "go")
    number = box.train(yml("echo one; read x < /data/go; echo two; exit 6"))
    box.wait_for_line(number, "one")
    box.kill_daemon()
    box.start()
    (box.data / "go").write_text("go\n")
    assert last(box, number).exit_code == 6
    assert output(box, number) == ["one", "two"]


@pytest.mark.parametrize(
    "point",
    [
        *("before-container", "image-container-made", "container-made"),
        *("before-begin", "after-begin", "container-removed"),
    ],
)
def test_a_crash_between_any_two_steps_runs_it_once(
    make_engine_box: Callable[..., Box], point: str
) -> None:
    box = make_engine_box()
    box.start(crash_at=point)
    number = box.train(yml("echo $EXPERIMENT_ID >> $OUTPUT_DIR/runs; echo ran"))
    box.wait_for_crash()
    box.start()
    assert box.wait_for_end(number) is State.FINISHED
    detail: Any = box.json("status", number)
    runs = box.output / detail["user"] / "boxed" / number / "runs"
    assert runs.read_text() == f"{number}\n"
    assert gone(box.root)


BUILD = """\
project: built
train:
  image:
    name: riseml-test/busybox
    install: {steps}
  run: cat made; ls; touch more
"""


def test_install_steps_build_an_image_once(box: Box) -> None:
    text = BUILD.format(steps='["id -u; echo made > made", "cat hello >> made"]')
    first = box.train(text, hello="hi\n")
    assert states(box, first)[:3] == ["CREATED", "BUILDING", "PENDING"]
    assert output(box, f"{first}.build") == [
        *("Step 1/2: id -u; echo made > made", "0", "Step 2/2: cat hello >> made"),
    ]
    assert output(box, first) == ["made", "hi", "hello", "made", "riseml.yml"]
    again = box.train(text.replace("touch more", "echo other"), hello="hi\n")
    assert "BUILDING" not in states(box, again)
    assert output(box, again)[:2] == ["made", "hi"]
    assert "other" in output(box, again)
    changed = box.train(text, hello="changed\n")
    assert "BUILDING" in states(box, changed)
    assert output(box, changed)[:2] == ["made", "changed"]


def test_a_set_is_built_before_any_of_it_waits(box: Box) -> None:
    number = box.train(BUILD.format(steps='["echo made > made"]') + "  parameters: {n: [1, 2]}\n")
    told = changes(box, number)
    assert told[:6] == [
        (number, "CREATED"),
        (f"{number}.1", "CREATED"),
        (f"{number}.2", "CREATED"),
        (number, "BUILDING"),
        (number, "PENDING"),
        (f"{number}.1", "PENDING"),
    ]
    assert told[-1] == (number, "FINISHED")


def test_a_failing_step_fails_the_experiment_with_its_output(box: Box) -> None:
    number = box.train(BUILD.format(steps='["echo boo; exit 7"]') + "  parameters: {n: [1, 2]}\n")
    assert box.wait_for_end(number) is State.FAILED
    assert output(box, f"{number}.build") == ["Step 1/1: echo boo; exit 7", "boo"]
    end = last(box, number)
    assert (end.reason, end.exit_code) == (Reason.BUILD_FAILED, 7)
    assert end.message == "Command 'echo boo; exit 7' return code: 7"
    detail: Any = box.json("status", number)
    assert [m["state"] for m in detail["experiments"]] == ["FAILED", "FAILED"]
    assert gone(box.root)


def test_an_image_that_cannot_be_had_is_a_clear_failure(box: Box) -> None:
    number = box.train(yml("true", image="no.such.host.invalid/image:1"))
    assert box.wait_for_end(number) is State.FAILED
    end = last(box, number)
    assert end.reason == Reason.BUILD_FAILED
    assert end.message.startswith("no.such.host.invalid/image:1 cannot be pulled: ")
    assert output(box, f"{number}.build")[0] == "Pulling no.such.host.invalid/image:1"


def test_an_image_without_a_shell_is_a_clear_failure(box: Box) -> None:
    empty = subprocess.run(["tar", "-c", "-T", "/dev/null"], capture_output=True, check=True).stdout
    docker("import", "-", "riseml-test/empty", stdin=empty)
    number = box.train(yml("true", image="riseml-test/empty"))
    assert box.wait_for_end(number) is State.FAILED
    assert "/bin/sh" in last(box, number).message
    assert gone(box.root)
    docker("rmi", "riseml-test/empty")


def test_a_build_can_be_killed(box: Box) -> None:
    number = box.train(BUILD.format(steps='["echo up; sleep 1000"]'))
    box.wait_for_line(number, "up")
    box.run("kill", number)
    assert last(box, number).state is State.KILLED
    assert gone(box.root)


@pytest.mark.parametrize("point", ["before-build", "build-ended", "build-committed"])
def test_a_crash_in_a_build_costs_nothing(make_engine_box: Callable[..., Box], point: str) -> None:
    box = make_engine_box()
    box.start(crash_at=point)
    step = f"echo {uuid.uuid4().hex}; echo made > made"
    number = box.train(BUILD.format(steps=f'["{step}"]'))
    box.wait_for_crash()
    box.start()
    assert box.wait_for_end(number) is State.FINISHED
    assert output(box, f"{number}.build") == [f"Step 1/1: {step}", step[5:37]]
    assert output(box, number)[0] == "made"
    assert gone(box.root)


def test_prune_removes_images_whose_outputs_are_gone(box: Box) -> None:
    number = box.train(BUILD.format(steps='["echo made > made"]'))
    box.wait_for_end(number)
    gone(box.root)
    assert box.run("system", "prune").stdout == "nothing to remove\n"
    detail: Any = box.json("status", number)
    subprocess.run(["rm", "-r", box.output / detail["user"] / "built" / number], check=True)
    assert re.fullmatch(r"removed image [0-9a-f]{12}\n", box.run("system", "prune").stdout)


def test_without_an_engine_both_ways_out_are_named(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.start(env={"DOCKER_HOST": f"unix://{box.root}/nowhere"})
    done = box.run("train", cwd=box.project(yml("true")), check=False)
    assert done.returncode == 2
    assert f"{box.root}/nowhere" in done.stderr
    assert (
        "nowhere; start one, leave image out, or ignore it by --runner process, or" in done.stderr
    )


def test_a_daemon_for_containers_alone_refuses_what_names_no_image(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(runner="docker")
    box.start()
    done = box.run("train", cwd=box.project("project: p\ntrain: {run: x}\n"), check=False)
    assert done.returncode == 2
    assert "train.image: is missing" in done.stderr


@pytest.mark.slow
def test_an_engine_that_dies_takes_no_job_along(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.data.mkdir(exist_ok=True)
    os.mkfifo(box.data / "go")
    with own_engine() as engine:
        box.start(env={"DOCKER_HOST": engine.host})
        number = box.train(yml("echo one; read x < /data/go; echo two; exit 3"))
        box.wait_for_line(number, "one")
        engine.kill()
        (box.data / "go").write_text("go\n")
        assert last(box, number).exit_code == 3
        assert output(box, number) == ["one", "two"]
        box.kill_daemon()


def test_results_can_be_reported_from_any_image(box: Box) -> None:
    need_python()
    number = box.train(
        yml("python -c 'import riseml; riseml.report_result(accuracy=0.5)'", image=PYTHON)
    )
    assert box.wait_for_end(number) is State.FINISHED
    detail: Any = box.json("status", number)
    assert detail["experiments"][0]["results"] == {"accuracy": 0.5}
