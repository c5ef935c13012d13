"""A FIFO, a directory, a device or a socket where a file of rised's should be: one clear error, and nobody hangs."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from box import PATIENCE, Box
from test_autostart import Home, home
from test_socket import serve

__all__ = ["home"]
KINDS = ("fifo", "directory", "device", "socket")


def put(path: Path, kind: str) -> None:
    """Let something of a kind be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            here = os.getcwd()
            os.chdir(path.parent)  # its path may be too long for a socket
            try:
                made.bind(path.name)
            finally:
                os.chdir(here)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["log", "config", "lock", "socket lock"])
def test_it_is_one_clear_error_of_rised(make_box: Callable[..., Box], what: str, kind: str) -> None:
    box = make_box()
    box.socket.parent.mkdir(mode=0o700)
    path = {
        "log": box.root / "x.log",
        "config": box.root / "config.yml",
        "lock": box.state / "lock",
        "socket lock": Path(f"{box.socket}.lock"),
    }[what]
    put(path, kind)
    flags = {"log": {"log_file": path}, "config": {"config": path}}.get(what, {})
    code, text = serve(box, **flags)
    assert code == 2
    assert str(path) in text
    if kind != "device":  # a lock is not even looked for behind a link
        said = {"directory": "a directory"}.get(kind, f"a {kind}").lower()
        assert said in text.lower()
    assert path.is_symlink() or not path.is_file()


def test_a_directory_where_a_full_log_is_moved_to_is_one_clear_error(
    make_box: Callable[..., Box],
) -> None:
    box = make_box()
    put(box.root / "x.log.1", "directory")
    code, text = serve(box, log_file=box.root / "x.log")
    assert code == 2
    assert f"{box.root}/x.log.1: is a directory, and a full log gets this name" in text


def test_the_null_device_is_an_empty_configuration_and_a_log_for_nobody(
    make_box: Callable[..., Box],
) -> None:
    box = make_box(config=os.devnull, log_file=os.devnull)
    box.start()
    assert box.run("whoami").returncode == 0
    box.stop()


def test_a_configuration_may_come_from_the_shell(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.flags.pop("gpus", None)
    box.prefix = ["bash", "-c", 'exec "$@" --config <(echo gpus: 3)', "bash"]
    box.start()
    assert "0/3" in box.run("system", "info").stdout
    box.stop()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in ("rised.log", "lock") for kind in KINDS),
        ("rised.log.1", "directory"),
    ],
)
def test_it_is_one_clear_error_of_the_command_that_starts_rised(
    home: Home, name: str, kind: str
) -> None:
    path = home.root / ".local/state/rised" / name
    put(path, kind)
    code, out, error = home.run("status")
    assert (code, out) == (2, "")
    assert error.startswith("riseml: ")
    assert error.count("\n") == 1
    assert str(path) in error
    assert home.daemons() == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_one_clear_error_of_the_client(home: Home, kind: str) -> None:
    start = Path(f"{home.socket}.start")
    start.parent.mkdir(mode=0o700)
    put(start, kind)
    config, project = home.root / ".config/riseml/config.yml", home.root / "riseml.yml"
    put(config, kind)
    for path, argv in ((config, ["status"]), (start, ["status"]), (project, ["train"])):
        if path == project:
            put(project, kind)
        code, out, error = home.run(*argv)
        assert (code, out) == (2, "")
        assert error.count("\n") == 1
        assert error.startswith("riseml: ")
        assert path.name in error
        if path == config:
            config.rename(home.root / "aside")


def test_a_project_may_come_from_the_shell(home: Home) -> None:
    script = 'exec "$0" -m riseml train --dry-run -f <(printf "project: a\\ntrain: {run: date}\\n")'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable],
        cwd=home.root,
        env=home.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "date" in done.stdout


def test_a_descriptor_that_cannot_be_written_to_is_refused(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.prefix = ["sh", "-c", 'exec "$@" 7< /dev/null', "sh"]
    code, text = serve_with(box, "7")
    assert (code, text) == (2, "rised: --ready-fd: 7 is not open for writing\n")
    box.prefix = []
    for wrong in ("-1", "987", "99999999999999999999"):
        code, text = serve_with(box, wrong)
        assert (code, text) == (2, f"rised: --ready-fd: {wrong} is not an open file descriptor\n")
    code, text = serve_with(box, "x")
    assert code == 2
    assert text.startswith("rised: argument --ready-fd: invalid int value: 'x'")


def serve_with(box: Box, ready_fd: str) -> tuple[int, str]:
    done = subprocess.run(
        [*box.argv(), f"--ready-fd={ready_fd}"],
        env=box.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stderr


def test_standard_output_takes_the_line_and_stays_open(make_box: Callable[..., Box]) -> None:
    box = make_box()
    box.socket.parent.mkdir(mode=0o700)
    command = [*box.argv(), "--ready-fd", "1", "--log-file", str(box.log)]
    with subprocess.Popen(command, env=box.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert os.readlink(f"/proc/{process.pid}/fd/1") == str(box.log)
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert "ready\n" not in box.log.read_text().splitlines()
