"""A real sshd on the loopback interface, and what a laptop needs to reach it: keys, known hosts, a configuration."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from box import need
from people import MODULES, User

ALIAS = "gpu-box"


class Sshd:
    """Listens itself and lets the real one serve each connection, as inetd does: so every one is counted."""

    def __init__(self, root: Path) -> None:
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        need(program is not None and shutil.which("ssh") is not None, "OpenSSH, server and client")
        os.makedirs("/run/sshd", exist_ok=True)
        key, self._config = root / "host_key", root / "sshd_config"
        make_key(key)
        self._public_key = key.with_suffix(".pub").read_text()
        self._config.write_text(
            f"HostKey {key}\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nAuthorizedKeysFile .ssh/authorized_keys\n"
        )
        self._command = [program, "-i", "-e", "-f", str(self._config)]
        self.connections = 0
        self._served: list[subprocess.Popen[bytes]] = []
        self._log = root / "sshd.log"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self._log.open("ab") as log:
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.connections += 1
                    fd = connection.fileno()
                    started = subprocess.Popen(self._command, stdin=fd, stdout=fd, stderr=log)  # type: ignore[arg-type]
                self._served.append(started)

    @property
    def log(self) -> str:
        """What it said."""
        return self._log.read_text()

    def admit(self, laptop: User, server: User, *options: str) -> None:
        """Let `laptop` reach the account of `server` as gpu-box; `options` go into its ssh_config."""
        # An account without any password counts as locked.
        subprocess.run(["usermod", "--password", "*", server.name], check=True)
        ours, theirs = directory(laptop, ".ssh"), directory(server, ".ssh")
        if not (ours / "id_ed25519").exists():
            make_key(ours / "id_ed25519")
        shutil.copy(ours / "id_ed25519.pub", theirs / "authorized_keys")
        (ours / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {self._public_key}")
        lines = ["HostName 127.0.0.1", f"Port {self.port}", f"User {server.name}", *options]
        (ours / "config").write_text("\n  ".join([f"Host {ALIAS}", *lines]) + "\n")
        for user, place in ((laptop, ours), (server, theirs)):
            for path in place.iterdir():
                os.chown(path, user.uid, user.gid)

    def cut(self) -> None:
        """Break all connections, as a network does."""
        for process in self._served:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
                for pid in map(int, children.split()):  # with the user's rights, and the socket
                    os.kill(pid, signal.SIGKILL)
            process.kill()

    def close(self) -> None:
        """End it, and what it serves."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()
        for process in self._served:
            process.wait()


def directory(user: User, *names: str) -> Path:
    """A directory in a user's home, made by them."""
    path = user.home.joinpath(*names)
    assert user.run("mkdir", "-p", "-m", "700", str(path)).returncode == 0
    return path


def make_key(path: Path) -> None:
    """Make a pair of keys without a password."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def install_riseml(user: User, *names: str) -> Path:
    """A `riseml` in a directory of a user's home, by default where pip puts it."""
    path = directory(user, *(names or (".local", "bin"))) / "riseml"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={MODULES} exec {user.python} -m riseml "$@"\n')
    path.chmod(0o755)
    return path
