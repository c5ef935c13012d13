"""Nobody has to start anything: the first command that needs a daemon starts the user's own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import BIN

from riseml_proto.default_socket import SYSTEM_SOCKET

pytestmark = pytest.mark.skipif(
    os.path.exists(SYSTEM_SOCKET), reason="this machine has a rised for all its users"
)


class Home:
    """A person's fresh account."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runtime = root / "run"
        self.runtime.mkdir(mode=0o700)
        self.socket = self.runtime / "rised" / "rised.sock"
        base = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "RISE"))}
        self.env = {
            **base,
            "PATH": f"{BIN}:{base['PATH']}",
            "HOME": str(root),
            "XDG_RUNTIME_DIR": str(self.runtime),
        }

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "riseml", *argv],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str) -> tuple[int, str, str]:
        with self.start(*argv) as process:
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return process.returncode, out, err

    def daemons(self) -> list[int]:
        """Pids of the daemons that serve this home."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"rised" in command and str(self.socket).encode() in command:
                found.append(int(name))
        return found

    def close(self) -> None:
        for pid in self.daemons():
            with_fd = os.pidfd_open(pid)
            signal.pidfd_send_signal(with_fd, signal.SIGTERM)
            import select

            select.select([with_fd], [], [], 60)
            os.close(with_fd)


@pytest.fixture
def home() -> Iterator[Home]:
    # A Unix socket's path must be short, and pytest's directories are not.
    root = Path(tempfile.mkdtemp(prefix="riseml-home-"))
    made = Home(root)
    yield made
    made.close()
    shutil.rmtree(root)


def test_the_first_command_starts_the_daemon_and_the_next_finds_it(home: Home) -> None:
    code, out, _ = home.run("system", "info", "-l")
    assert code == 0
    (pid,) = home.daemons()
    assert f"PID: {pid}" in out
    assert f"State: {home.root}/.local/state/rised" in out
    assert f"Output: {home.root}/riseml-output" in out
    assert home.run("whoami")[0] == 0
    assert home.daemons() == [pid]
    assert (home.root / ".local/state/rised/rised.log").stat().st_size


def test_a_log_that_has_grown_large_is_moved_aside(home: Home) -> None:
    log = home.root / ".local/state/rised/rised.log"
    log.parent.mkdir(parents=True)
    log.write_text("an old line\n" * 500_000)
    assert home.run("status")[0] == 0
    assert "event=ready" in log.read_text()
    assert log.stat().st_size < 10_000
    assert log.with_name("rised.log.1").stat().st_size == 6_000_000


def test_a_daemon_that_is_killed_and_one_that_fails_leave_their_words_in_the_log(
    home: Home,
) -> None:
    assert home.run("status")[0] == 0
    (pid,) = home.daemons()
    os.kill(pid, signal.SIGKILL)
    config = home.root / ".config" / "rised" / "config.yml"
    config.parent.mkdir(parents=True)
    config.write_text("output-dir: /proc/none\n")
    assert "rised did not start: /proc/none" in home.run("status")[2]
    lines = (home.root / ".local/state/rised/rised.log").read_text().splitlines()
    assert any("event=ready" in line for line in lines)
    assert lines[-1].startswith("rised: /proc/none")


def test_ten_commands_at_once_start_one_daemon(home: Home) -> None:
    started = [home.start("system", "info", "-l") for _ in range(10)]
    texts = set()
    for process in started:
        with process:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            texts |= {line for line in out.splitlines() if line.startswith("PID:")}
    assert texts == {f"PID: {pid}" for pid in home.daemons()}
    assert len(texts) == 1


def test_a_daemon_that_cannot_start_tells_why_through_the_client(home: Home) -> None:
    config = home.root / ".config" / "rised" / "config.yml"
    config.parent.mkdir(parents=True)
    config.write_text("gpu: 4\n")
    code, _, err = home.run("status")
    assert code == 2
    assert "rised did not start" in err
    assert f"{config}" in err
    assert "gpu" in err
    assert "its log is" in err
    assert home.daemons() == []
    config.write_text("gpus: 4\n")
    assert home.run("status")[0] == 0
    assert len(json.loads(home.run("system", "info", "--json")[1])["gpus"]) == 4


def test_the_same_daemon_is_found_from_another_runtime_directory(home: Home) -> None:
    assert home.run("status")[0] == 0
    (pid,) = home.daemons()
    other = home.root / "run2"
    other.mkdir(mode=0o700)
    home.env["XDG_RUNTIME_DIR"] = str(other)
    assert json.loads(home.run("system", "info", "--json")[1])["pid"] == pid


def test_a_runtime_directory_that_others_may_write_to_is_not_used(home: Home) -> None:
    (home.runtime / "rised").mkdir()
    (home.runtime / "rised").chmod(0o777)
    code, _, err = home.run("status")
    assert code == 2
    assert f"{home.runtime}/rised is not a directory that only you can write to" in err
    assert home.daemons() == []


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no version that it names"),
        (b"HTTP/1.1 200 OK\r\nRised-Api: 99\r\nContent-Length: 2\r\n\r\n[]", "speaks version 99"),
        (
            b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\nContent-Length: 3\r\n\r\nwhy",
            "does not answer like",
        ),
        (
            b"HTTP/1.1 500 No\r\nRised-Api: 2\r\nContent-Length: 3\r\n\r\nwhy",
            "does not answer like",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer like rised"),
        (b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\nContent-Length: 20\r\n\r\n[", "hung up"),
        (b"", "hung up"),
    ],
)
def test_a_server_that_talks_nonsense_is_one_clear_error(
    home: Home, answer: bytes, text: str
) -> None:
    home.socket.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home.socket))
        server.listen()
        with home.start("status") as process:
            peer, _ = server.accept()
            peer.recv(65536)
            peer.sendall(answer)
            peer.close()
            out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert text in err
    assert err.startswith("riseml: ")
    assert err.count("\n") == 1
    assert str(home.socket) in err
