"""`riseml train`, as a person meets it: what it shows, sends, refuses, and how it ends."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from riseml.commands import dry_run
from riseml.commands.train import exit_code, submitted_env
from riseml.progress import SyncLine, plural, size_text
from riseml.sync import hashes
from riseml.sync.scan import ProjectLimits, scan
from riseml_proto.config import parse_config
from riseml_proto.messages import EndEntry, HeadEntry, StateEntry
from riseml_proto.states import State
from tests.client.storing_daemon import StoringDaemon

CONFIG = """\
project: toaster
train:
  parameters:
    lr: [0.0001, 1e-3]
    epochs: [20, 30]
  concurrency: 2
  run: python train.py --lr {{lr}} --epochs {{ epochs }}
"""
SYNCED = f"Syncing project ({len(CONFIG)} B, 1 file)...done\n"
TIME = datetime(2017, 8, 30, 9, 59, 6, tzinfo=UTC)


class Project:
    """A project's directory, and `riseml train` in it against the daemon of the test."""

    def __init__(self, path: Path, server: StoringDaemon) -> None:
        self.path = path
        self.server = server
        self.write("riseml.yml", CONFIG)
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(path.parent),
            "RISEML_HOST": server.host,
            "VIRTUAL_ENV": "/venv",
        }

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "riseml", "train", *options]

    def train(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options),
            cwd=self.path,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "project").mkdir()
    with StoringDaemon(str(tmp_path / "socket")) as server:
        yield Project(tmp_path / "project", server)


def test_a_sync_and_an_experiment_on_the_screen(project: Project) -> None:
    project.server.entries = [
        HeadEntry(id="144", count=8),
        StateEntry(id="144", time=TIME, state=State.PENDING, seq=1),
        EndEntry(state=State.FINISHED, counts={"FINISHED": 8}),
    ]
    project.write("weights", "x" * 1_300_000)
    done = project.train()
    assert done.stdout == (
        "Syncing project (1.3 MB, 2 files)...done\n"
        "144             | [2017-08-30T09:59:06Z] --> PENDING\n"
    )
    assert (done.stderr, done.returncode) == ("", 0)
    [request] = project.server.log_requests
    assert (request.id, request.follow, request.opening) == ("144", True, True)


def test_what_is_submitted(project: Project) -> None:
    project.train("-d", "--strict")
    [submission] = project.server.submissions
    assert (submission.config, submission.config_file) == (CONFIG, "riseml.yml")
    assert submission.env == {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "/venv"}
    assert submission.strict
    assert len(submission.revision) == 40
    assert project.server.manifests[0].project == "toaster"


@pytest.mark.parametrize(
    ("state", "counts", "code"),
    [
        (State.FINISHED, {"FINISHED": 8}, 0),
        (State.FINISHED, {"FINISHED": 7, "KILLED": 1}, 0),
        (State.FINISHED, {"FINISHED": 7, "FAILED": 1}, 1),
        (State.FAILED, {"FAILED": 1}, 1),
        (State.KILLED, {"KILLED": 1}, 1),
    ],
)
def test_the_exit_code_tells_the_outcome(state: State, counts: dict[str, int], code: int) -> None:
    assert exit_code(EndEntry(state=state, counts=counts)) == code


def test_a_failed_experiment_ends_with_1(project: Project) -> None:
    project.server.entries = [EndEntry(state=State.FAILED, counts={"FAILED": 1})]
    assert project.train().returncode == 1


def test_ctrl_c_detaches_and_says_how_to_come_back(project: Project) -> None:
    project.server.entries.insert(0, StateEntry(id="144", time=TIME, state=State.PENDING, seq=1))
    project.server.entries.insert(0, HeadEntry(id="144", count=8))
    project.server.stay_open.clear()
    running = subprocess.Popen(
        project.command(),
        cwd=project.path,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout
    assert running.stderr
    with running:
        assert running.stdout.readline() == SYNCED
        assert running.stdout.readline().endswith("--> PENDING\n")
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == ""
        told = running.stderr.read()
    assert told == (
        "Job will continue in background.\n"
        "Run `riseml logs 144` to see it again, `riseml logs -f 144` to follow it.\n"
    )
    assert running.returncode == 0


def test_detached_it_says_what_was_started(project: Project) -> None:
    done = project.train("-d")
    assert done.stdout.splitlines()[1:] == [
        "Started experiment 144 with 8 sub-experiments.",
        "Run `riseml status 144` to see where it stands, `riseml logs -f 144` to follow it.",
    ]
    assert (done.returncode, project.server.log_requests) == (0, [])


def test_detached_as_json_stdout_is_one_object(project: Project) -> None:
    done = project.train("-d", "--json")
    assert json.loads(done.stdout)["id"] == "144"
    assert done.stderr == SYNCED


def test_json_alone_is_refused(project: Project) -> None:
    done = project.train("--json")
    assert (done.returncode, project.server.manifests) == (2, [])
    assert done.stderr.startswith("riseml: --json goes with --detach or --dry-run")


def test_another_configuration_may_lie_anywhere(project: Project, tmp_path: Path) -> None:
    (tmp_path / "other.yml").write_text(CONFIG.replace("toaster", "kettle"))
    assert project.train("-d", "-f", "../other.yml").returncode == 0
    assert project.server.manifests[0].project == "kettle"
    assert [file.path for file in project.server.manifests[0].files] == ["riseml.yml"]


def test_warnings_go_to_stderr_once(project: Project) -> None:
    project.write("riseml.yml", CONFIG.replace("{{lr}}", "{{lrr}}"))
    expected = "riseml.yml:7: {{lrr}} is not a parameter and stays as it is (did you mean {{lr}}?)"
    project.server.warnings = [expected, "the disk is nearly full"]
    done = project.train("-d")
    assert done.stderr.splitlines() == [
        f"riseml: warning: {expected}",
        "riseml: warning: the disk is nearly full",
    ]


def test_strict_makes_an_unknown_placeholder_an_error(project: Project) -> None:
    project.write("riseml.yml", CONFIG.replace("{{lr}}", "{{lrr}}"))
    done = project.train("--strict")
    assert (done.returncode, done.stdout, project.server.manifests) == (2, "", [])
    assert done.stderr.startswith("riseml: riseml.yml:7: {{lrr}} is not a parameter")


def test_special_files_are_a_warning(project: Project) -> None:
    os.mkfifo(project.path / "pipe")
    done = project.train("-d")
    assert done.stderr == "riseml: warning: sockets, pipes and devices are not synced: pipe\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "riseml.yml: there is no such file; riseml init writes a first one"),
        (b"project: \xff", "riseml.yml:1: is not UTF-8 text"),
        (b"#\n#\n\xe9", "riseml.yml:3: is not UTF-8 text"),
        (b"\xef\xbb\xbf[", "riseml.yml"),
        (b"x" * ((4 << 20) + 1), "riseml.yml: is too large"),
        (b"project: toaster\ntrain: {runs: x}\n", "riseml.yml:2: train"),
    ],
)
def test_a_bad_riseml_yml_is_refused_before_anything_is_sent(
    project: Project, content: bytes | None, error: str
) -> None:
    (project.path / "riseml.yml").unlink()
    if content is not None:
        (project.path / "riseml.yml").write_bytes(content)
    done = project.train()
    assert (done.returncode, done.stdout, project.server.manifests) == (2, "", [])
    assert done.stderr.startswith(f"riseml: {error}")
    assert done.stderr.count("\n") == 1


def test_in_a_directory_below_the_project_it_is_told_where_to_go(project: Project) -> None:
    (project.path / "src" / "model").mkdir(parents=True)
    remedy = f"riseml.yml: there is no such file; there is one in {project.path}: cd there"
    done = subprocess.run(
        project.command(),
        cwd=project.path / "src" / "model",
        env=project.env,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, f"riseml: {remedy}\n")


def test_files_that_cannot_be_taken_are_refused_before_anything_is_sent(project: Project) -> None:
    (project.path / "away").symlink_to("../../secret")
    done = project.train()
    assert (done.returncode, done.stdout, project.server.manifests) == (2, "", [])
    assert done.stderr.startswith("riseml: away is a link to ../../secret, which is outside")


def test_the_limits_are_the_daemons_where_they_are_higher(project: Project) -> None:
    with open(project.path / "weights", "wb") as file:
        file.truncate(3 << 30)
    project.write(".gitignore", "")
    done = project.train()
    assert (done.returncode, project.server.manifests) == (2, [])
    assert "more than 2.1 GB; the biggest parts are weights (3.2 GB)" in done.stderr
    project.server.limits = (2, 4 << 30)
    done = project.train()
    assert "more than 2 files" in done.stderr


def test_a_sync_that_fails_says_so_on_its_line(project: Project) -> None:
    project.server.loses_objects = True
    done = project.train()
    assert done.stdout == SYNCED.replace("done", "failed")
    assert (done.returncode, project.server.submissions) == (2, [])


def test_a_cache_that_proves_wrong_costs_another_look_and_no_failure(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.env["XDG_CACHE_HOME"] = str(project.path.parent / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", project.env["XDG_CACHE_HOME"])
    root = os.fsencode(project.path)
    [source] = scan(root, ProjectLimits()).files
    hashes._save(hashes._cache_file(root), {source.path: (source.stamp, "a" * 40)})
    done = project.train("-d")
    assert (done.returncode, done.stderr) == (0, "")
    [content] = [content for _, content in project.server.files().values()]
    assert content == (project.path / "riseml.yml").read_bytes()


def test_a_dry_run_shows_what_would_run_without_a_daemon(project: Project) -> None:
    project.env["RISEML_HOST"] = "unix:///nowhere"
    done = project.train("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "toaster: 4 sub-experiments, 2 at a time\n"
        "1  epochs=20, lr=0.0001\n"
        "   python train.py --lr 0.0001 --epochs 20\n"
        "2  epochs=20, lr=1e-3\n"
        "   python train.py --lr 1e-3 --epochs 20\n"
        "3  epochs=30, lr=0.0001\n"
        "   python train.py --lr 0.0001 --epochs 30\n"
        "4  epochs=30, lr=1e-3\n"
        "   python train.py --lr 1e-3 --epochs 30\n"
    )


def test_a_dry_run_as_json_lists_every_sub_experiment() -> None:
    out = StringIO()
    dry_run.show_json(parse_config(CONFIG), out)
    assert json.loads(out.getvalue())[3] == {
        "number": 4,
        "params": {"epochs": "30", "lr": "1e-3"},
        "run": ["python train.py --lr 1e-3 --epochs 30"],
    }


def test_a_dry_run_of_a_list_of_commands_without_parameters() -> None:
    out = StringIO()
    config = parse_config("project: a\ntrain:\n  run:\n    - make\n    - |\n      cd x\n      ls\n")
    dry_run.show(config, out)
    assert out.getvalue() == "a: 1 experiment\n   make\n   cd x\n   ls\n"
    out = StringIO()
    dry_run.show_json(config, out)
    assert json.loads(out.getvalue()) == [
        {"number": 0, "params": {}, "run": ["make", "cd x\nls\n"]}
    ]


def test_a_dry_run_of_a_giant_grid_shows_its_beginning() -> None:
    out = StringIO()
    values = "range: {min: 1, max: 1000000, step: 1}"
    dry_run.show(
        parse_config(f"project: a\ntrain: {{run: x, parameters: {{n: {{{values}}}}}}}"), out
    )
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["a: 1,000,000 sub-experiments, 1 at a time", "   1  n=1", "      x"]
    assert lines[-1] == "… and 999,000 more; --json lists all of them"
    assert len(lines) == 2 + 2 * dry_run.MOST


def test_whoever_reads_a_dry_run_may_leave(project: Project) -> None:
    project.write(
        "riseml.yml", CONFIG.replace("[20, 30]", "{range: {min: 1, max: 99999, step: 1}}")
    )
    running = subprocess.Popen(
        project.command("--dry-run", "--json"),
        cwd=project.path,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout
    assert running.stderr
    with running:
        assert running.stdout.readline() == b"[\n"
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141


def test_only_texts_of_the_environment_travel() -> None:
    environ = {"PATH": "/bin", "HOME": "/root", "VIRTUAL_ENV": "", "CONDA_PREFIX": "/\udcff"}
    assert submitted_env(environ) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (7_649, "7.6 KB"),
        (999_949, "999.9 KB"),
        (999_950, "1.0 MB"),
        (1_300_000, "1.3 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_plurals() -> None:
    assert [plural(n, "file") for n in (0, 1, 7000)] == ["0 files", "1 file", "7,000 files"]


def drain(terminal: int) -> bytes:
    """All that was shown on a terminal whose other end is closed."""
    shown = b""
    with open(terminal, "rb", buffering=0) as file, suppress(OSError):  # EIO is its end
        while piece := file.read(4096):
            shown += piece
    return shown


def test_a_long_sync_on_a_terminal_shows_a_bar_and_leaves_only_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with (
        open(theirs, "w", encoding="utf-8") as out,
        SyncLine(2_000_000, 7, out, patience=0) as line,
    ):
        line.start(2_000_000, "reading")
        line.advance(1_000_000)
        line.start(500_000, "sending")
        line.advance(500_000)
    shown = drain(ours).decode()
    assert "reading" in shown
    assert "sending" in shown
    assert shown.endswith("\r\x1b[KSyncing project (2.0 MB, 7 files)...done\r\n")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_bar_is_one_line_however_narrow_the_terminal_is(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with (
        open(theirs, "w", encoding="utf-8") as out,
        SyncLine(2_000_000, 12_345, out, patience=0) as line,
    ):
        line.start(2_000_000, "reading")
        line.advance(1_000_000)
    shown = drain(ours).decode()
    assert shown.endswith("\r\x1b[KSyncing project (2.0 MB, 12,345 files)...done\r\n")
    before = shown.rpartition("\r\x1b[K")[0]
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", before)
    assert "Syncing project" in plain
    assert max(map(len, re.split(r"[\r\n]", plain))) <= width


def test_a_terminal_that_becomes_narrower_gets_a_bar_of_its_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    with (
        open(theirs, "w", encoding="utf-8") as out,
        SyncLine(2_000_000, 7, out, patience=0) as line,
    ):
        line.start(2_000_000, "reading")
        line.advance(1)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
        line.start(1_000_000, "sending")
    shown = drain(ours).decode()
    # The bar of 91 columns has become two lines, both of which are removed.
    assert "\r\x1b[K\x1b[A\x1b[K" in shown
    after = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.partition("\x1b[A\x1b[K")[2])
    assert "sending" in after
    assert max(map(len, re.split(r"[\r\n]", after))) <= 50


def test_a_quick_sync_on_a_terminal_shows_no_bar() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as out, SyncLine(512, 1, out) as line:
        line.start(512, "reading")
        line.advance(512)
    assert drain(ours) == b"Syncing project (512 B, 1 file)...done\r\n"
