"""Nobody reads, kills or writes what is another user's, and the kernel says who is who."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from box import Box
from people import User

from riseml_proto.default_socket import SYSTEM_SOCKET

# Prints each of the given paths that can be read, listed or written to.
TRY_ALL = """
import os, sys
for path in sys.argv[1:]:
    for act in (os.listdir, lambda p: open(p), lambda p: open(p, "a"), lambda p: open(p + "/new", "w")):
        try:
            act(path)
            print(path)
        except (NotADirectoryError, IsADirectoryError, PermissionError):
            pass
"""
SLEEP = "project: a\ntrain: {run: 'echo secret; exec sleep 1000'}\n"


def test_another_user_cannot_reach_the_daemon_or_read_what_it_keeps(
    box: Box, users: Callable[[], User]
) -> None:
    paul = users()
    for path in (box.root, *box.root.parents):
        if path != Path("/tmp") and path != Path("/"):
            path.chmod(0o755)  # so that nothing protects it but the daemon
    box.wait_for_line(box.train(SLEEP), "secret")
    done = paul.riseml("status", host=f"unix://{box.socket}")
    assert done.returncode == 2
    assert "you may not use the daemon" in done.stderr
    kept = [path for top in (box.state, box.output) for path in [top, *top.rglob("*")]]
    assert any(path.name.endswith(".log") for path in kept)
    done = paul.run(paul.python, "-c", TRY_ALL, *map(str, kept))
    assert (done.returncode, done.stdout) == (0, "")


def test_another_user_who_reaches_the_socket_is_told_whose_it_is(
    box: Box, users: Callable[[], User]
) -> None:
    paul = users()
    box.wait_for_line(box.train(SLEEP), "secret")
    box.socket.parent.chmod(0o755)
    box.socket.chmod(0o666)
    host = f"unix://{box.socket}"
    for argv in (
        ["status", "-a"],
        ["logs", "1"],
        ["kill", "-f", "1"],
        ["whoami"],
        ["system", "info"],
    ):
        done = paul.riseml(*argv, host=host)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"does not serve {paul.name}" in done.stderr
    raw = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect(%r);"
        "s.sendall(b'GET /v1/whoami HTTP/1.1\\r\\nHost: a\\r\\nX-User: root\\r\\n\\r\\n');"
        "print(s.recv(9999).decode())"
    )
    answer = paul.run(paul.python, "-c", raw % str(box.socket)).stdout
    assert answer.startswith("HTTP/1.1 403")
    assert '"code":"forbidden"' in answer
    assert "RUNNING" in box.run("status").stdout
    box.run("kill", "-f", "1")


needs_own = pytest.mark.skipif(
    os.path.exists(SYSTEM_SOCKET), reason="this machine has a rised for all its users"
)


@needs_own
def test_a_user_without_any_set_up_trains_and_root_may_look(users: Callable[[], User]) -> None:
    paul = users()
    (paul.project / "riseml.yml").write_text("project: a\ntrain: {run: 'id -un; echo $HOME'}\n")
    done = paul.riseml("train")
    assert done.returncode == 0, done.stderr
    assert f"] {paul.name}\n" in done.stdout
    assert f"] {paul.home}\n" in done.stdout
    assert paul.place.stat().st_mode & 0o777 == 0o700
    output = paul.home / "riseml-output" / paul.name / "a" / "1"
    assert output.stat().st_uid == paul.uid
    socket = paul.place / "rised.sock"
    env = {**os.environ, "RISEML_HOST": f"unix://{socket}"}
    look = [sys.executable, "-m", "riseml", "logs", "1"]
    assert (
        paul.name
        in subprocess.run(look, env=env, capture_output=True, text=True, check=True).stdout
    )
    anna = users()
    done = anna.riseml("logs", "1", host=f"unix://{socket}")
    assert done.returncode == 2
    done = paul.run(paul.python, "-m", "rised", "--stop")
    assert done.returncode == 0, done.stderr


@needs_own
@pytest.mark.parametrize("how", ["directory", "link", "file"])
def test_a_place_that_another_user_took_first_is_not_used(
    users: Callable[[], User], how: str
) -> None:
    paul, eve = users(), users()
    (paul.project / "riseml.yml").write_text("project: a\ntrain: {run: 'true'}\n")
    trap = eve.home / "trap"
    eve.home.chmod(0o755)
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    make = {
        "directory": f"mkdir -m 777 {paul.place}",
        "link": f"ln -s {trap} {paul.place}",
        "file": f"touch {paul.place}",
    }
    assert eve.run("sh", "-c", make[how]).returncode == 0
    for argv in (["train"], ["status"]):
        done = paul.riseml(*argv)
        assert done.returncode == 2
        assert f"{paul.place} is not a directory that only you can write to" in done.stderr
        assert "XDG_RUNTIME_DIR" in done.stderr
    done = paul.run(paul.python, "-m", "rised", "--socket", str(paul.place / "rised.sock"))
    assert done.returncode == 2
    assert str(paul.place) in done.stderr
    assert os.listdir(trap) == []
    if how == "file":
        paul.place.unlink()
