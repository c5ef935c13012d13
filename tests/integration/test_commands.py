"""Every command as a person types it, against a real daemon."""

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import PATIENCE, Box, need

from riseml_proto.states import State

SET = """\
project: toaster
train:
  parameters:
    n: [1, 2, 3]
  concurrency: 3
  run: for line in a b c; do echo $line {{n}}; done
"""
BAR = r"""printf '10%%\r50%%\r'; read x < go; printf '100%%\n'; echo end"""


@contextlib.contextmanager
def typed(box: Box, *argv: str, cwd: Path | None = None, tty: bool = False) -> Iterator["Typed"]:
    """A command that runs, on a terminal of 80 columns or into a pipe."""
    end, theirs = pty.openpty() if tty else os.pipe()
    if tty:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "riseml", *argv],
        cwd=cwd or box.root,
        env={**box.env, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Typed(process, end)
    finally:
        process.kill()
        process.wait()
        os.close(end)


class Typed:
    """A command and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self.printed = ""
        self._end = end

    def read(self) -> bool:
        """Some more; False at the end."""
        assert select.select([self._end], [], [], PATIENCE)[0], self.printed
        try:
            data = os.read(self._end, 65536)
        except OSError:  # how a terminal tells that nobody has it open any more
            data = b""
        self.printed += data.decode()
        return bool(data)

    def until(self, text: str) -> None:
        while text not in self.printed:
            assert self.read(), self.printed

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(PATIENCE)


def lines(text: str, job: str) -> list[str]:
    """What a job printed, from what `riseml logs` shows."""
    return re.findall(rf"^{re.escape(job)} *\| \[[^]]*\] (.*)$", text, re.MULTILINE)


# logs


def test_many_jobs_are_followed_at_once_each_line_whole_and_in_its_jobs_order(box: Box) -> None:
    text = SET.replace("[1, 2, 3]", "{range: {min: 1, max: 12, step: 1}}").replace(": 3", ": 6")
    number = box.train(text)
    with typed(box, "logs", "-f", number) as logs:
        assert logs.end() == 0
    for n in range(1, 13):
        assert lines(logs.printed, f"{number}.{n}.train") == [f"{c} {n}" for c in "abc"]
        assert "--> FINISHED" in lines(logs.printed, f"{number}.{n}")
    widths = {line.index("|") for line in logs.printed.splitlines()}
    assert widths == {len(f"{number}.tensorboard") + 1}


def test_logs_show_what_was_asked_for(box: Box) -> None:
    number = box.train(SET)
    box.wait_for_end(number)
    everything = box.run("logs", number).stdout
    assert sum(len(lines(everything, f"{number}.{n}.train")) for n in (1, 2, 3)) == 9
    assert lines(box.run("logs", f"{number}.2").stdout, f"{number}.2.train") == [
        "a 2",
        "b 2",
        "c 2",
    ]
    last = box.run("logs", "-n", "2", f"{number}.2.train").stdout
    assert lines(last, f"{number}.2.train") == ["b 2", "c 2"]
    assert "train" not in box.run("logs", "-n", "0", number).stdout
    assert "train" not in box.run("logs", "--since", "2999-01-01", number).stdout
    recent = box.run("logs", "--since", "1h", number).stdout
    assert recent.count(".train") == 9
    done = box.run("logs", "--since", "yesterday", number, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    entries = [json.loads(line) for line in box.run("logs", "--json", number).stdout.splitlines()]
    assert [entries[0]["type"], entries[-1]["type"]] == ["head", "end"]


def test_the_default_is_the_last_experiment_of_the_project(box: Box) -> None:
    first = box.train(SET)
    other = box.root / "other"
    other.mkdir()
    (other / "riseml.yml").write_text("project: other\ntrain: {run: 'echo other'}\n")
    box.run("train", "-d", cwd=other)
    for number in (first, str(int(first) + 1)):
        box.wait_for_end(number)
    assert "a 1" in box.run("logs", cwd=box.root / "project").stdout
    assert "] other" in box.run("logs", cwd=other).stdout
    assert "] other" in box.run("logs").stdout
    (other / "riseml.yml").write_text("project: never\ntrain: {run: x}\n")
    done = box.run("logs", cwd=other, check=False)
    assert done.returncode == 2
    assert "no experiment of project never" in done.stderr


def test_raw_is_the_bytes_that_the_job_wrote(box: Box) -> None:
    data = bytes(range(256)) * 300
    number = box.train("project: a\ntrain: {run: 'cat data'}\n", data="")
    (box.root / "project" / "data").write_bytes(data)
    box.run("train", "-d", cwd=box.root / "project")
    number = str(int(number) + 1)
    box.wait_for_end(number)
    done = subprocess.run(
        [sys.executable, "-m", "riseml", "logs", "--raw", number],
        env=box.env,
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout == data


def test_a_progress_bar_is_its_last_state_in_a_pipe_and_moves_on_a_terminal(box: Box) -> None:
    os.mkfifo(box.root / "go")
    run = BAR.replace("go", str(box.root / "go"))
    number = box.train(f"project: a\ntrain:\n  run: |-\n    {run}\n")
    with typed(box, "logs", "-f", number, tty=True) as screen:
        screen.until("50%")
        (box.root / "go").write_text("go\n")
        assert screen.end() == 0
    shown = rendered(screen.printed)
    assert not any(line.endswith(("10%", "50%")) for line in shown)
    assert sum(line.endswith("] 100%") for line in shown) == 1
    piped = box.run("logs", number).stdout
    assert lines(piped, f"{number}.train") == ["100%", "end"]
    assert "\r" not in piped


def rendered(text: str) -> list[str]:
    """What a terminal shows in the end of text that only returns to its line's start and clears it."""
    shown = []
    for line in text.replace("\r\n", "\n").split("\n"):
        line = line.rpartition("\x1b[K")[2]
        shown.append(re.sub(r"\x1b\[[\d;]*m", "", line))
    return shown


def test_output_cannot_meddle_with_the_terminal(box: Box) -> None:
    run = r"printf '\033]0;title\007\033[2Jseen\033[5;5H\n'"
    number = box.train(f"project: a\ntrain:\n  run: |-\n    {run}\n")
    box.wait_for_end(number)
    with typed(box, "logs", number, tty=True) as screen:
        assert screen.end() == 0
    assert "] seen" in screen.printed
    for bad in ("\x1b]", "\x1b[2J", "\x1b[5;5H", "\x07"):
        assert bad not in screen.printed


def test_a_reader_who_has_seen_enough_ends_the_command_silently(box: Box) -> None:
    number = box.train("project: a\ntrain: {run: 'seq 100000'}\n")
    box.wait_for_end(number)
    command = f"{sys.executable} -m riseml logs {number} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=box.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 141
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


# train


@pytest.mark.parametrize("tty", [False, True])
def test_ctrl_c_detaches_says_so_and_the_job_goes_on(box: Box, tty: bool) -> None:
    os.mkfifo(box.root / "go")
    text = f"project: a\ntrain: {{run: 'echo ready; read x < {box.root}/go; echo went on'}}\n"
    with typed(box, "train", cwd=box.project(text), tty=tty) as train:
        train.until("] ready")
        train.process.send_signal(signal.SIGINT)
        assert train.end() == 0
    assert "Job will continue in background.\n" in train.printed.replace("\r\n", "\n")
    assert "`riseml logs 1`" in train.printed
    assert "Traceback" not in train.printed
    (box.root / "go").write_text("go\n")
    assert box.wait_for_end("1") is State.FINISHED
    assert lines(box.run("logs", "1").stdout, "1.train") == ["ready", "went on"]


@pytest.mark.parametrize(
    ("run", "code"), [("true", 0), ("exit 3", 1), ("kill -9 $$", 1), ("exit $((n - 1))", 1)]
)
def test_the_exit_code_tells_the_outcome(box: Box, run: str, code: int) -> None:
    text = f"project: a\ntrain:\n  parameters: {{n: [1, 2]}}\n  run: {run}\n"
    assert box.run("train", cwd=box.project(text), check=False).returncode == code


def test_a_wrong_file_starts_nothing_and_needs_no_daemon(box: Box) -> None:
    project = box.project("project: a\ntrain:\n  rnu: x\n")
    box.stop()
    done = box.run("train", cwd=project, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("riseml: riseml.yml:3: train.rnu: ")
    done = box.run("train", cwd=box.root, check=False)
    assert done.returncode == 2
    assert "riseml init" in done.stderr
    (project / "riseml.yml").write_text(SET)
    done = box.run("train", cwd=project, check=False)
    assert done.returncode == 2
    assert "there is no daemon" in done.stderr


def test_what_is_queued_runs_the_files_as_they_were(box: Box) -> None:
    os.mkfifo(box.root / "go")
    text = f"project: a\ntrain:\n  parameters: {{n: [1, 2, 3]}}\n  run: cat file; read x < {box.root}/go\n"
    project = box.project(text, file="before\n")
    box.run("train", "-d", cwd=project)
    box.wait_for_line("1.1", "before")
    (project / "file").write_text("after\n")
    (project / "riseml.yml").write_text("nonsense")
    for n in (1, 2, 3):
        box.wait_for_line(f"1.{n}", "before")
        (box.root / "go").write_text("go\n")
    assert box.wait_for_end("1") is State.FINISHED


def test_a_revision_is_a_commit_and_the_same_files_are_the_same_one(box: Box) -> None:
    need(shutil.which("git") is not None, "git")
    project = box.project("project: a\ntrain: {run: 'true'}\n", **{"ä %": "content\n"})
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / "empty").touch()
    (project / "link").symlink_to("empty")
    (project / ".gitignore").write_text("*.pyc\n")
    (project / "a.pyc").write_text("x")

    def submit() -> dict[str, Any]:
        started = json.loads(box.run("train", "-d", "--json", cwd=project).stdout)
        assert isinstance(started, dict)
        return started

    first = submit()
    assert submit()["revision"] == first["revision"]
    (project / "empty").write_text("no more")
    second = submit()
    assert second["revision"] != first["revision"]
    who: Any = box.json("whoami")
    repository = box.state / "repositories" / who["user"] / "a.git"

    def git(*argv: str) -> str:
        argv = ("git", "-c", "safe.directory=*", "-c", "core.quotePath=false", *argv)
        done = subprocess.run(argv, cwd=repository, capture_output=True, text=True, check=True)
        return done.stdout

    assert f"commit {first['revision']}" in git("show", first["revision"])
    tree = git("ls-tree", "-r", first["revision"])
    assert [line.split("\t")[1] for line in tree.splitlines()] == [
        ".gitignore", "empty", "link", "riseml.yml", "run.sh", "ä %",
    ]  # fmt: skip
    assert [line.split()[0] for line in tree.splitlines()] == [
        "100644", "100644", "120000", "100644", "100755", "100644",
    ]  # fmt: skip
    assert git("show", f"{second['revision']}:empty") == "no more"
    assert "error" not in git("fsck", "--full")


def test_a_second_sync_sends_only_what_changed(box: Box) -> None:
    project = box.project("project: a\ntrain: {run: 'true'}\n", large="x" * 3_000_000)
    box.run("train", "-d", cwd=project)
    objects = sum(f.stat().st_size for f in box.state.rglob("objects/**/*") if f.is_file())
    assert objects > 0
    (project / "small").write_text("y")
    before = {path for path in box.state.rglob("objects/**/*") if path.is_file()}
    box.run("train", "-d", cwd=project)
    after = {path for path in box.state.rglob("objects/**/*") if path.is_file()}
    assert len(after - before) == 3  # the small file, the tree and the commit
    for number in ("1", "2"):
        box.wait_for_end(number)


# status, kill, init, whoami, system


def test_status_says_why_something_waits(box: Box) -> None:
    text = "project: a\ntrain: {run: 'echo ready; exec sleep 1000', resources: {gpus: 3}}\n"
    first, second = box.train(text), box.train(text)
    box.wait_for_line(first, "ready")
    shown = box.run("status", "-l", second).stdout
    assert "State: PENDING" in shown
    assert re.search(r"^Reason: .*3 GPUs.*1", shown, re.MULTILINE), shown
    listed = box.run("status").stdout.splitlines()
    assert listed[0].split() == ["ID", "PROJECT", "STATE", "AGE", "TYPE"]
    assert [line.split()[:3] for line in listed[1:]] == [
        [first, "a", "RUNNING"],
        [second, "a", "PENDING"],
    ]
    done = box.run("kill", "-f", second, first)
    assert done.stdout == f"killed experiment {second}\nkilled experiment {first}\n"
    assert box.run("kill", first).stdout == f"experiment {first} has already ended\n"
    assert box.run("status").stdout.splitlines() == listed[:1]
    assert box.processes() == {}


def test_status_of_a_user_tells_nobody_from_one_without_experiments(box: Box) -> None:
    assert box.run("status", "daemon").stdout == "ID PROJECT STATE     AGE           TYPE\n"
    done = box.run("status", "daemom", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "riseml: there is no user 'daemom'; IDs look like 144 or 144.2\n"


def test_the_other_commands_do_what_they_say(box: Box) -> None:
    empty = box.root / "empty"
    empty.mkdir()
    box.run("init", cwd=empty)
    again = box.run("init", cwd=empty, check=False)
    assert again.returncode == 2
    assert "riseml.yml" in again.stderr
    assert box.run("train", "--dry-run", cwd=empty).stdout
    assert f"uid {os.getuid()}" in box.run("whoami").stdout
    assert box.run("system", "info").stdout.splitlines()[0].split() == [
        "NODE",
        "CPU",
        "MEM",
        "GPU",
        "GPU",
        "MEM",
    ]
    assert len(box.run("system", "info", "-g").stdout.splitlines()) == 5
    assert re.fullmatch(r"riseml \d+\.\d+\.\d+\n", box.run("--version").stdout)
    for argv in (["status", "1..2"], ["logs", "99"], ["kill", "99"], ["statsu"], ["status", "-x"]):
        done = box.run(*argv, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("riseml: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_nothing_wraps_on_a_screen_of_80_columns(box: Box) -> None:
    need(shutil.which("tmux") is not None, "tmux")
    number = box.train(
        SET.replace("n: [1, 2, 3]", "a-rather-long-name: [0.000001]\n    another-long-name: [x, y]")
    )
    box.wait_for_end(number)
    commands = ["--help", *(f"{name} --help" for name in COMMANDS), f"status {number}", "status -a",
                f"status -al {number}", "status -al", "system info -lg"]  # fmt: skip
    for command in commands:
        screen = on_screen(box, f"riseml {command}")
        with typed(box, *command.split()) as plain:
            plain.end()
        # How long a path is lies not with the command.
        printed = plain.printed.splitlines()
        rows = [-(-len(line) // 80) if str(box.root) in line else 1 for line in printed]
        assert len(screen) == sum(rows), (command, screen)


COMMANDS = ("init", "train", "kill", "status", "logs", "system", "whoami")


def on_screen(box: Box, command: str) -> list[str]:
    """The lines that a terminal of 80 columns shows of a command's output."""
    server = ["tmux", "-L", f"riseml-{os.getpid()}", "-f", "/dev/null"]
    wait = f"{command}; tmux -L riseml-{os.getpid()} wait-for -S done; read x"
    env = {**box.env, "COLUMNS": "80", "TERM": "xterm-256color"}
    try:
        subprocess.run(
            [*server, "new-session", "-d", "-x", "80", "-y", "200", "sh", "-c", wait],
            env=env, check=True, cwd=box.root / "project",
        )  # fmt: skip
        subprocess.run([*server, "wait-for", "done"], env=env, check=True, timeout=PATIENCE)
        shown = subprocess.run(
            [*server, "capture-pane", "-p"], env=env, check=True, capture_output=True, text=True
        ).stdout
    finally:
        subprocess.run([*server, "kill-server"], env=env, check=False, capture_output=True)
    return shown.rstrip("\n").split("\n")
