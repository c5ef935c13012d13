"""What jobs report, from their own words to the table and the best of them."""

import json
import os
import venv
from pathlib import Path
from typing import Any

import pytest
from box import Box

SWEEP = """\
project: toaster
train:
  parameters:
    lr: [0.1, 0.2, 0.3]
  concurrency: 3
  run: {}
"""


def report(result: str) -> str:
    """A command that reports the learning rate as `result`."""
    return f'echo "{{\\"{result}\\": $LR}}" >> $OUTPUT_DIR/riseml-results.jsonl'


def sweep(script: str) -> str:
    """A riseml.yml whose three members run `script`."""
    return SWEEP.format(json.dumps(script))


ECHO = report("accuracy")


def results_of(box: Box, target: str) -> dict[str, Any]:
    """ID → results of each member, as `riseml status --json` prints them."""
    detail: Any = box.json("status", target)
    return {member["id"]: member["results"] for member in detail["experiments"]}


def block(box: Box, name: str = "gate") -> Path:
    """A FIFO at which a job waits."""
    gate = box.root / name
    os.mkfifo(gate)
    return gate


def test_whatever_can_append_a_line_reports_a_result(box: Box) -> None:
    number = box.train(sweep(ECHO))
    box.wait_for_end(number)
    assert results_of(box, number) == {f"1.{n}": {"accuracy": n / 10} for n in (1, 2, 3)}
    table = box.run("status", number).stdout.splitlines()[-4:]
    assert table[0] == "EXP ID STATE     AGE           ACCURACY PARAMS"
    assert [line.split()[-2:] for line in table[1:]] == [
        ["0.1", "lr=0.1"],
        ["0.2", "lr=0.2"],
        ["0.3", "lr=0.3"],
    ]
    assert "Results: accuracy=0.2\n" in box.run("status", "1.2").stdout


def test_where_nothing_was_reported_nothing_looks_different(box: Box) -> None:
    number = box.train(sweep("true"))
    box.wait_for_end(number)
    table = box.run("status", number).stdout.splitlines()
    assert table[5] == "EXP ID STATE     AGE           PARAMS"


@pytest.mark.slow
def test_a_virtual_environment_without_riseml_reports_too(box: Box) -> None:
    venv.create(box.root / "bare", symlinks=True)
    python = box.root / "bare" / "bin" / "python"
    text = sweep(f"PYTHONPATH= {python} -c 'import riseml' || {python} train.py")
    code = "import os, riseml\nriseml.report_result(accuracy=float(os.environ['LR']), step=1)\n"
    number = box.train(text, **{"train.py": code})
    box.wait_for_end(number)
    assert results_of(box, number)["1.3"] == {"accuracy": 0.3}
    assert (
        "No module named 'riseml'" in box.run("logs", "1.3").stdout
    )  # without what the daemon adds


def test_the_best_is_shown_with_what_made_it_and_where_it_lies(box: Box) -> None:
    number = box.train(sweep(ECHO))
    box.wait_for_end(number)
    user = box.json("whoami")["user"]  # type: ignore[index]
    output = box.output / user / "toaster" / "1"
    assert box.run("best", number).stdout == (
        "ID: 1.3\nState: FINISHED\nBest: highest accuracy of 3 that reported it, by the last value of each\n"
        f"Params: lr=0.3\nResults: accuracy=0.3\nOutput: {output}/3\n"
    )
    assert box.run("best", number, "--min").stdout.startswith("ID: 1.1\n")
    first: Any
    second: Any
    first, second = box.json("best", number, "-n", "2")  # type: ignore[misc]
    assert first == {
        "id": "1.3",
        "state": "FINISHED",
        "by": "accuracy",
        "lowest": False,
        "value": 0.3,
        "history": False,
        "params": {"lr": "0.3"},
        "results": {"accuracy": 0.3},
        "output_dir": f"{output}/3",
    }
    assert second["id"] == "1.2"


def test_a_table_is_ordered_by_a_result_or_a_parameter(box: Box) -> None:
    number = box.train(sweep(f"case $LR in 0.2) ;; *) {report('loss')};; esac"))
    box.wait_for_end(number)

    def order(*argv: str) -> list[str]:
        detail: Any = box.json("status", number, *argv)
        return [member["id"] for member in detail["experiments"]]

    assert order("--sort", "loss") == ["1.1", "1.3", "1.2"]
    assert order("--sort", "loss", "--reverse") == ["1.3", "1.1", "1.2"]
    assert order("--sort", "lr", "--reverse") == ["1.3", "1.2", "1.1"]
    for wrong, told in {
        ("status", number, "--sort", "x"): "cannot sort by x; there is loss, lr",
        ("status", number, "--reverse"): "say --sort NAME",
        ("status", "1.2", "--sort", "loss"): "say its ID, such as 144",
        ("best", number, "--by", "x"): "no sub-experiment of 1 has reported x; there is loss",
        ("best", "1.2"): "1.2 is one sub-experiment; say the whole set, 1",
        ("best", number, "-n", "0"): "-n takes a number, 1 or more",
        ("best", "7"): "there is no experiment 7",
    }.items():
        done = box.run(*wrong, check=False)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_with_several_results_one_has_to_be_named_and_its_name_says_which_is_best(
    box: Box,
) -> None:
    file = "$OUTPUT_DIR/riseml-results.jsonl"
    note = f"""echo '{{"note": "x"}}' >> {file}"""
    number = box.train(sweep(f"{report('accuracy')}; {report('val_loss')}; {note}"))
    box.wait_for_end(number)
    done = box.run("best", number, check=False)
    assert done.stderr == (
        "riseml: 1 has several results, accuracy, val_loss; say which, such as --by accuracy\n"
    )
    assert "lowest val_loss" in box.run("best", number, "--by", "val_loss").stdout
    assert box.run("best", number, "--by", "val_loss").stdout.startswith("ID: 1.1\n")
    assert box.run("best", number, "--by", "val_loss", "--max").stdout.startswith("ID: 1.3\n")
    assert "note in 1 is no number" in box.run("best", number, "--by", "note", check=False).stderr


def test_those_that_run_count_with_what_they_have_reported_so_far(box: Box) -> None:
    gate = block(box)
    number = box.train(sweep(f"{ECHO}; echo told; cat {gate}"))
    for member in (1, 2, 3):
        box.wait_for_line(f"{number}.{member}", "told")
    assert results_of(box, number)["1.3"] == {"accuracy": 0.3}
    assert box.run("best", number).stdout.startswith("ID: 1.3\nState: RUNNING\n")
    box.run("kill", "1.3")
    assert box.run("best", number).stdout.startswith("ID: 1.2\nState: RUNNING\n")
    assert box.run("best", number, "--failed").stdout.startswith("ID: 1.3\nState: KILLED\n")
    box.run("kill", number)
    none = box.run("best", number, check=False)
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr == (
        f"riseml: no sub-experiment of {number} that reported accuracy has finished or runs; --failed counts"
        " those that failed or were killed\n"
    )


def test_a_direction_that_no_name_tells_is_asked_for_and_written_once(box: Box) -> None:
    number = box.train(sweep(report("cross_entropy")))
    box.wait_for_end(number)
    for command in (["best", number], ["status", number, "--sort", "cross_entropy"]):
        done = box.run(*command, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert "objective: {result: cross_entropy, goal: min}" in done.stderr
    assert box.run("best", number, "--min").stdout.startswith("ID: 1.1\n")
    objective = "train:\n  objective: {result: cross_entropy, goal: min}\n"
    script = f"{report('cross_entropy')}; {report('accuracy')}; [ $LR != 0.1 ]"
    text = sweep(script).replace("train:\n", objective)
    done = box.run("train", cwd=box.project(text), check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "riseml: 1 of 3 sub-experiments failed; riseml status 2 shows which",
        "riseml: 2.2 is the best: lowest cross_entropy, 0.2, of 2 that reported it (lr=0.2)",
    ]
    assert box.run("best", "2").stdout.startswith("ID: 2.2\n")
    rows = box.run("status", "2", "--sort", "cross_entropy").stdout.splitlines()
    assert [row.split()[0] for row in rows[6:]] == ["2.1", "2.2", "2.3"]


def test_the_best_of_the_way_counts_where_it_is_asked_for(box: Box) -> None:
    script = f"{report('accuracy')}; LR=$((3 - ${{LR#0.}})).5; {report('accuracy')}"
    number = box.train(sweep(script))
    box.wait_for_end(number)
    last = box.run("best", number).stdout
    assert "Best: highest accuracy of 3 that reported it, by the last value of each\n" in last
    history = box.run("best", number, "--history", "--min").stdout
    assert history.startswith("ID: 1.1\n")
    assert "Best: lowest accuracy of 3 that reported it, by the best value of each\n" in history
    assert "Reached: accuracy=0.1\n" in history
    assert box.run("best", number, "--min").stdout.startswith("ID: 1.3\n")


def test_what_an_ended_one_reported_stays_known_without_its_file_and_after_a_crash(
    box: Box,
) -> None:
    number = box.train(sweep(ECHO))
    box.wait_for_end(number)
    for file in box.output.rglob("riseml-results.jsonl"):
        file.unlink()
    box.kill_daemon()
    box.start()
    assert results_of(box, number)["1.2"] == {"accuracy": 0.2}
    assert box.run("best", number).stdout.startswith("ID: 1.3\n")


def test_what_was_reported_while_no_daemon_watched_counts(box: Box) -> None:
    gate = block(box)
    number = box.train(sweep(f"echo up; cat {gate}; {ECHO}"))
    for member in (1, 2, 3):
        box.wait_for_line(f"{number}.{member}", "up")
    box.kill_daemon()
    gate.write_text("")
    box.start()
    box.wait_for_end(number)
    assert results_of(box, number)["1.3"] == {"accuracy": 0.3}


HOSTILE = {
    "fifo": "mkfifo $F",
    "link": "echo '{\"accuracy\": 9}' > x; ln -s $PWD/x $F",
    "directory": "mkdir $F",
    "device": "ln -s /dev/zero $F",
    "sparse": "truncate -s 1T $F",
    "junk": "head -c 4000000 /dev/urandom > $F",
}


@pytest.mark.parametrize("command", HOSTILE.values(), ids=HOSTILE)
def test_no_file_that_a_job_leaves_holds_the_daemon_up(command: str, box: Box) -> None:
    gate = block(box)
    run = f"F=$OUTPUT_DIR/riseml-results.jsonl; {command}; echo done; cat {gate}"
    number = box.train(sweep(run))
    box.wait_for_line(f"{number}.1", "done")
    assert results_of(box, number)["1.1"] == {}
    box.run("kill", number)
    assert set(map(json.dumps, results_of(box, number).values())) == {"{}"}


def test_what_a_failed_attempt_reported_is_overtaken_by_the_next(box: Box) -> None:
    text = "project: toaster\ntrain:\n  retries: 1\n  run: sh train.sh\n"
    script = """\
f=$OUTPUT_DIR/riseml-results.jsonl
if [ -e $f ]; then echo '{"accuracy": 2}' >> $f; else echo '{"accuracy": 1, "half": 1}' >> $f; exit 1; fi
"""
    number = box.train(text, **{"train.sh": script})
    box.wait_for_end(number)
    assert results_of(box, number) == {"1": {"accuracy": 2, "half": 1}}
    assert "Results: accuracy=2, half=1\n" in box.run("status", number).stdout
    assert "Best: highest accuracy\n" in box.run("best", number, "--by", "accuracy").stdout
