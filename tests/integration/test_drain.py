"""An administrator takes GPUs, or the whole machine, out of use and back, while jobs run."""

import json
from typing import Any

from box import Box

from riseml_proto.states import State

TWO = "project: a\ntrain:\n  resources: {gpus: 2}\n  run: echo $CUDA_VISIBLE_DEVICES; %s\n"


def gpus(box: Box) -> list[Any]:
    shown: Any = box.json("system", "info")
    return list(shown["gpus"])


def test_a_gpu_that_was_taken_out_is_given_to_nobody_until_it_is_back(box: Box) -> None:
    assert box.run(
        "system", "drain", "--gpu", "0", "--gpu", "2", "--reason", "new fans"
    ).stdout == ("GPUs 0, 2: out of use; who has one keeps it\n")
    first = box.train(TWO % "exit 0")
    assert box.wait_for_end(first) is State.FINISHED
    assert box.run("logs", "--raw", first).stdout == "1,3\n"
    box.kill_daemon()
    box.start()
    shown = [(gpu["index"], gpu["out"]) for gpu in gpus(box)]
    assert shown == [(0, "taken out: new fans"), (1, None), (2, "taken out: new fans"), (3, None)]
    assert "taken out: new fans" in box.run("system", "info", "-g").stdout
    box.run("system", "drain", "--gpu", "3")
    second = box.train(TWO % "exit 0")
    assert "2 GPUs (1 free)" in box.run("status", "-l", second).stdout
    box.run("system", "undrain", "--gpu", "0")
    assert box.wait_for_end(second) is State.FINISHED
    assert box.run("logs", "--raw", second).stdout == "0,1\n"


def test_who_has_a_gpu_that_is_taken_out_keeps_it(box: Box) -> None:
    number = box.train(TWO % "mkfifo f; echo on; read x < f")
    box.wait_for_line(number, "on")
    box.run("system", "drain", "--gpu", "0")
    assert [gpu["used_by"] for gpu in gpus(box)] == [number, number, None, None]
    assert "RUNNING" in box.run("status", number).stdout
    (box.state / "work" / f"{number}.train.1" / "f").write_text("over\n")
    assert box.wait_for_end(number) is State.FINISHED
    again = box.train(TWO % "exit 0")
    assert box.wait_for_end(again) is State.FINISHED
    assert box.run("logs", "--raw", again).stdout == "1,2\n"


def test_a_gpu_that_is_not_there_cannot_be_taken_out(box: Box) -> None:
    done = box.run("system", "drain", "--gpu", "9", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "riseml: there is no GPU 9; riseml system info -g shows them\n"
    assert json.loads(box.run("system", "info", "--json").stdout)["drained"] is None
