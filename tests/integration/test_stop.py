"""`rised --stop`: it ends the daemon that uses a state directory and nothing else, and says plainly that none does."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import PATIENCE, Box

from riseml_proto.states import State


def stop(home: Path, *argv: str) -> tuple[int, str]:
    """`rised --stop` by somebody whose home is `home`: exit code and what it says."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-m", "rised", "--stop", *argv],
        env={**env, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1
    return done.returncode, done.stderr.rstrip("\n")


def test_where_no_daemon_ever_ran_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    nothing = f"rised: no rised uses {tmp_path}/.local/state/rised; nothing to stop"
    assert stop(tmp_path) == (0, nothing)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x").write_text("")
    nowhere = tmp_path / "x" / "y"
    assert stop(tmp_path, "--state-dir", str(nowhere)) == (
        0,
        f"rised: no rised uses {nowhere}; nothing to stop",
    )


def test_a_configuration_that_cannot_say_where_the_state_is_makes_it_unsure(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "rised" / "config.yml"
    config.parent.mkdir(parents=True)
    config.write_text("gpus: many\n")  # wrong, but for others
    nothing = f"rised: no rised uses {tmp_path}/.local/state/rised"
    assert stop(tmp_path) == (0, f"{nothing}; nothing to stop")
    config.write_text("a: [\n")
    code, text = stop(tmp_path)
    assert code == 2
    assert text.startswith(f"{nothing}, and the configuration cannot name another directory: ")
    assert f"{config}: not YAML: " in text
    assert text.endswith("; name it with --state-dir")
    state = tmp_path / "s"
    assert stop(tmp_path, "--state-dir", str(state))[0] == 0
    config.write_text("state-dir: 5\n")
    assert stop(tmp_path) == (2, f"rised: {config}: state-dir: must be a text, not 5")


def test_one_that_runs_is_stopped_whatever_its_configuration_became(
    make_box: Callable[..., Box],
) -> None:
    box = make_box()
    config = box.root / "config.yml"
    config.write_text("")
    box.flags["config"] = config
    box.start()
    config.write_text("a: [\n")
    assert stop(box.root, "--config", str(config), "--state-dir", str(box.state)) == (0, "")
    assert box.daemon is not None
    assert box.daemon.wait(PATIENCE) == 0
    assert stop(box.root, "--state-dir", str(box.state))[0] == 0


@contextlib.contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with it."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        assert process.poll() is None
        process.kill()


@contextlib.contextmanager
def lock(state: Path, text: str) -> Iterator[Path]:
    """This process holds the lock of a state directory, with `text` in the file."""
    state.mkdir()
    path = state / "lock"
    path.write_text(text)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def test_one_that_has_just_taken_the_lock_is_never_taken_for_an_earlier_one(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with bystander() as other, lock(state, f"{other.pid}\n/nowhere\n"):
        code, text = stop(tmp_path, "--state-dir", str(state))
    assert code == 2
    assert text.startswith(f"rised: {state}/lock is held, but by no process")


def test_one_that_has_not_written_its_pid_yet_is_waited_for(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    starting = (
        "import fcntl, os, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.readline(); file.write(f'{os.getpid()}\\n/s\\n');"
        "file.flush(); print(flush=True); import time; time.sleep(1000)"
    )
    command = [sys.executable, "-c", starting, str(state / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        stopping = [sys.executable, "-m", "rised", "--stop", "--state-dir", str(state)]
        with subprocess.Popen(stopping, stderr=subprocess.PIPE) as told:
            while str(state / "lock") not in links(told.pid):
                assert told.poll() is None
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert told.communicate(timeout=PATIENCE)[1] == b""
            assert told.returncode == 0
        assert process.wait(PATIENCE) == -signal.SIGTERM


def links(pid: int) -> list[str]:
    """The files that a process has open."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def wait_until_it_waits(told: subprocess.Popen[bytes]) -> None:
    """Return when a `rised --stop` has found the daemon."""
    while not any("pidfd" in link for link in links(told.pid)):
        assert told.poll() is None


STUBBORN = (
    "trap 'echo asked > ../../told; read x < ../../go; exit 0' TERM; echo on; "
    "while :; do read x < ../../never; done"
)


def test_a_second_stop_does_not_disturb_the_first(make_box: Callable[..., Box]) -> None:
    box = make_box(stop_jobs=True, kill_grace=60)
    box.start()
    assert box.daemon is not None
    for name in ("told", "go", "never"):
        os.mkfifo(box.state / name)
    number = box.train(f"project: a\ntrain: {{run: {json.dumps(STUBBORN)}}}\n")
    box.wait_for_line(number, "on")
    box.daemon.terminate()
    assert (box.state / "told").read_text() == "asked\n"  # it is stopping now
    stopping = [sys.executable, "-m", "rised", "--stop", "--state-dir", str(box.state)]
    with subprocess.Popen(stopping, stderr=subprocess.PIPE) as told:
        wait_until_it_waits(told)
        box.daemon.send_signal(signal.SIGINT)
        box.daemon.send_signal(signal.SIGTERM)
        (box.state / "go").write_text("go\n")
        assert box.daemon.wait(PATIENCE) == 0
        assert told.communicate(timeout=PATIENCE)[1] == b""
    assert told.returncode == 0
    box.start()
    assert box.wait_for_end(number) is State.KILLED


def test_another_users_daemon_is_refused_with_the_way_out(box: Box) -> None:
    if os.getuid():
        pytest.skip("needs root, to be somebody else")
    argv = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "rised", "--stop"]
    done = subprocess.run(
        [*argv, "--state-dir", str(box.state)],
        env={**box.env, "HOME": "/"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("Permission denied; stop it as the user whose it is, or as root\n")
    assert box.daemon is not None
    assert box.daemon.poll() is None


def test_ctrl_c_while_it_waits_is_no_traceback(box: Box) -> None:
    assert box.daemon is not None
    box.daemon.send_signal(signal.SIGSTOP)
    stopping = [sys.executable, "-m", "rised", "--stop", "--state-dir", str(box.state)]
    with subprocess.Popen(stopping, stderr=subprocess.PIPE) as told:
        wait_until_it_waits(told)
        told.send_signal(signal.SIGINT)
        assert told.communicate(timeout=PATIENCE)[1] == b""
    assert told.returncode == 130
    box.daemon.send_signal(signal.SIGCONT)
    assert box.daemon.wait(PATIENCE) == 0
