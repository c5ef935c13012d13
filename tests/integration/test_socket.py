"""One daemon behind each socket and each state directory, and no way to put another's in its place."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from box import Box


def serve(box: Box, **flags: object) -> tuple[int, str]:
    """Start another daemon like `box`'s that cannot start; its exit code and what it says."""
    other = Box(box.root, **{**box.flags, **flags})
    box.socket.parent.mkdir(mode=0o700, exist_ok=True)
    done = subprocess.run(
        other.argv(), env=box.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
    assert line.startswith("rised: ")
    return done.returncode, line


def test_a_socket_that_a_dead_daemon_left_is_replaced(box: Box) -> None:
    box.kill_daemon()
    assert box.socket.exists()
    box.start()
    assert box.run("whoami").returncode == 0
    box.stop()
    assert not box.socket.exists()


def test_a_second_daemon_on_one_socket_is_told_of_the_first(box: Box) -> None:
    code, text = serve(box, state_dir=box.root / "other")
    assert code == 3
    assert text == f"rised: {box.socket} is in use by another rised (pid {box.daemon.pid})"  # type: ignore[union-attr]
    assert box.run("whoami").returncode == 0


def test_a_daemon_with_a_log_file_says_on_the_terminal_too_why_it_does_not_start(box: Box) -> None:
    code, text = serve(box, state_dir=box.root / "other", log_file=box.root / "other.log")
    assert (code, text in (box.root / "other.log").read_text()) == (3, True)


def test_a_closed_standard_stream_is_no_other_files_place(box: Box) -> None:
    """Else the log would be written into whatever was opened next, the database for one."""
    box.stop()
    box.prefix = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    box.start()
    assert box.daemon is not None
    links = [os.readlink(f"/proc/{box.daemon.pid}/fd/{fd}") for fd in (0, 1, 2)]
    assert links == [os.devnull] * 3


def test_a_descriptor_that_is_not_open_is_refused(make_box: Callable[..., Box]) -> None:
    code, text = serve(make_box(), ready_fd=987)
    assert (code, text) == (2, "rised: --ready-fd: 987 is not an open file descriptor")


def test_a_second_daemon_on_one_state_directory_is_told_of_the_first(box: Box) -> None:
    other = box.socket.parent / "t"
    code, text = serve(box, socket=other)
    assert code == 3
    taken = f"rised: {box.state} is in use by another rised (pid {box.daemon.pid}): "  # type: ignore[union-attr]
    assert text == f"{taken}use that one by --host unix://{box.socket}, or end it with rised --stop"
    assert not other.exists()
    assert box.run("whoami").returncode == 0


def test_a_directory_that_others_may_write_to_is_refused(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.socket.parent.mkdir()
    box.socket.parent.chmod(0o770)
    code, text = serve(box)
    assert code == 2
    assert f"chmod 700 {box.socket.parent}" in text
    assert not box.socket.exists()


@pytest.mark.parametrize("link", [True, False])
def test_a_directory_that_is_none_is_refused(make_box: Callable[..., Box], link: bool) -> None:
    box = make_box()
    (box.root / "real").mkdir(mode=0o700)
    place = box.root.parent / "p"
    place.symlink_to(box.root / "real") if link else place.write_text("")
    code, text = serve(box, socket=place / "s")
    assert code == 2
    assert str(place) in text
    assert os.listdir(box.root / "real") == []


def test_a_path_too_long_for_a_socket_is_refused(make_box: Callable[..., Box]) -> None:
    box = make_box()
    code, text = serve(box, socket=box.socket.parent / ("x" * 100))
    assert code == 2
    assert "too long for a Unix socket" in text
    assert "--socket" in text


@pytest.mark.parametrize("kind", ["file", "directory", "fifo"])
def test_what_is_no_socket_is_not_removed(make_box: Callable[..., Box], kind: str) -> None:
    box = make_box()
    box.socket.parent.mkdir(mode=0o700)
    if kind == "directory":
        box.socket.mkdir()
    else:
        os.mknod(box.socket, 0o600 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFREG))
    code, text = serve(box)
    assert code == 2
    assert f"{box.socket} is there and is no socket" in text
    assert box.socket.exists()


def test_the_lock_is_not_followed_to_where_a_link_leads(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.socket.parent.mkdir(mode=0o700)
    precious = box.root / "precious"
    precious.write_text("precious")
    Path(f"{box.socket}.lock").symlink_to(precious)
    code, text = serve(box)
    assert code == 2
    assert f"{box.socket}.lock" in text
    assert precious.read_text() == "precious"


def test_the_socket_is_its_owners_alone(box: Box) -> None:
    assert box.socket.stat().st_mode & 0o777 == 0o600
    assert box.socket.parent.stat().st_mode & 0o777 == 0o700
    assert box.state.stat().st_mode & 0o777 == 0o700


def test_a_daemon_can_be_stopped_by_its_state_directory(box: Box) -> None:
    assert box.daemon is not None
    stop = [*box.argv(), "--stop"]
    subprocess.run(stop, env=box.env, check=True, timeout=60)
    assert box.daemon.wait(60) == 0
    done = subprocess.run(
        stop, env=box.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stderr == f"rised: no rised uses {box.state}; nothing to stop\n"


def test_nobody_ever_meets_a_socket_that_does_not_listen(box: Box) -> None:
    box.kill_daemon()
    with socket.socket(socket.AF_UNIX) as dead, pytest.raises(ConnectionRefusedError):
        dead.connect(str(box.socket))
    done = box.run("status", check=False)
    assert done.returncode == 2
    assert "does not run any more; start it: rised --socket" in done.stderr
