"""Which daemon is meant, and how the user's own one is started."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from riseml.transport import daemon as finder
from riseml.transport.http import Client
from riseml_proto.default_socket import user_socket
from riseml_proto.errors import DaemonError, Unreachable

RISED = """
import os, signal, socket, sys
socket_path, ready = sys.argv[sys.argv.index("--socket") + 1], int(sys.argv[sys.argv.index("--ready-fd") + 1])
print("started", os.getpid(), os.getsid(0), os.getcwd(), flush=True)
if os.environ["FAKE_RISED"] == "fails":
    print("rised: the state directory is damaged\\n", file=sys.stderr, flush=True)
    sys.exit(1)
listener = socket.socket(socket.AF_UNIX)
if os.path.exists(socket_path):
    os.unlink(socket_path)
listener.bind(socket_path)
listener.listen()
if os.environ["FAKE_RISED"] == "comes second":
    os.close(ready)
else:
    os.write(ready, b"ready\\n")
    os.close(ready)
signal.pause()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user with nothing but a `rised` of our own making, which is ended afterwards."""
    (tmp_path / "rised.py").write_text(RISED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAKE_RISED", "works")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("RISEML_HOST", raising=False)
    monkeypatch.setattr(finder, "SYSTEM_SOCKET", str(tmp_path / "system.sock"))
    monkeypatch.setattr(finder, "UNITS", (str(tmp_path / "rised.socket"),))
    yield tmp_path
    for pid in starts(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def starts(home: Path) -> list[int]:
    """The pids of the daemons that were started."""
    log = home / "state/rised/rised.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("started")]


def test_a_socket_lies_in_the_runtime_directory_or_what_stands_for_it() -> None:
    assert user_socket({"XDG_RUNTIME_DIR": "/r/"}, 7, run_user=True) == "/r/rised/rised.sock"
    assert user_socket({}, 7, run_user=True) == "/run/user/7/rised/rised.sock"
    assert user_socket({"XDG_RUNTIME_DIR": ""}, 7, run_user=False) == "/tmp/rised-7/rised.sock"
    assert user_socket({"XDG_RUNTIME_DIR": "here"}, 7, run_user=False).startswith("/tmp/")


def test_the_users_own_daemon_is_started_by_the_first_who_needs_it(home: Path) -> None:
    for _ in range(2):
        with finder.connect() as client:
            assert client.endpoint.where == "at " + str(home / "run/rised/rised.sock")
    assert (home / "run/rised").stat().st_mode & 0o777 == 0o700
    line = (home / "state/rised/rised.log").read_text().split()
    assert line[1:] == [line[1], line[1], "/"]  # a session of its own


def test_a_server_that_is_stopped_is_to_be_started_and_not_replaced(home: Path) -> None:
    (home / "rised.socket").touch()
    with pytest.raises(
        DaemonError, match=r"does not run; to start it: sudo systemctl start rised\.socket"
    ):
        finder.local_socket(os.environ)
    assert starts(home) == []
    assert not (home / "run").exists()


def test_of_many_who_need_it_at_once_one_starts_it(home: Path) -> None:
    errors = []

    def use() -> None:
        try:
            with finder.connect():
                pass
        except DaemonError as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(starts(home)) == 1


def test_a_stale_socket_does_not_hinder_the_start(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(finder.own_socket(os.environ, os.getuid()))
    with finder.connect():
        pass


def test_a_daemon_that_fails_is_told_with_its_last_words(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RISED", "fails")
    (home / "state/rised").mkdir(parents=True)
    (home / "state/rised/rised.log").write_text("an old line\n")
    with pytest.raises(DaemonError) as caught, finder.connect():
        pass
    assert str(caught.value) == (
        "rised did not start: the state directory is damaged; "
        f"its log is {home}/state/rised/rised.log"
    )


def test_one_that_finds_another_at_work_is_no_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RISED", "comes second")
    with finder.connect():
        pass


def test_a_daemon_that_was_named_is_never_started(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"unix://{home}/mine.sock"
    with pytest.raises(Unreachable, match="there is no daemon at"), finder.connect(host):
        pass
    monkeypatch.setenv("RISEML_HOST", host)
    with pytest.raises(Unreachable, match="there is no daemon at"), finder.connect():
        pass
    assert not (home / "state").exists()


def test_the_machines_daemon_is_used_where_there_is_one(home: Path) -> None:
    (home / "system.sock").touch()
    with pytest.raises(Unreachable, match=r"system\.sock"), finder.connect():
        pass
    assert not (home / "state").exists()


def test_a_directory_that_others_can_write_to_is_not_trusted(home: Path) -> None:
    directory = home / "run/rised"
    directory.mkdir(parents=True)
    directory.chmod(0o770)
    with pytest.raises(DaemonError, match="only you can write to"), finder.connect():
        pass
    directory.rmdir()
    directory.symlink_to(home)
    with pytest.raises(DaemonError, match="only you can write to"), finder.connect():
        pass


def test_a_directory_of_someone_elses_is_not_trusted(home: Path) -> None:
    finder.own_socket(os.environ, os.getuid())
    with pytest.raises(DaemonError, match="only you can write to"):
        finder.own_socket(os.environ, os.getuid() + 1)


def test_a_runtime_directory_that_cannot_be_made_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/none")
    with pytest.raises(DaemonError, match="set XDG_RUNTIME_DIR"), finder.connect():
        pass


def test_a_client_that_started_nothing_leaves_nothing_behind(daemon: Any) -> None:
    daemon.scripts = [daemon.answers()]
    before = set(Path(daemon.path).parent.iterdir())
    with finder.connect(f"unix://{daemon.path}") as client:
        assert isinstance(client, Client)
    assert set(Path(daemon.path).parent.iterdir()) == before
