"""Commands on a laptop reach a daemon behind a real sshd, with nothing but ssh."""

import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import PATIENCE, Box, need
from people import MODULES, User
from sshd import ALIAS, Sshd, directory, install_riseml

from riseml_proto.default_socket import SYSTEM_SOCKET

Users = Callable[..., User]


class Desk:
    """A laptop's user, the account that they have on the server, and the server's daemon."""

    def __init__(self, box: Box, sshd: Sshd, users: Users) -> None:
        self.box, self.sshd = box, sshd
        self.laptop, self.server = users(), users()
        install_riseml(self.server)
        sshd.admit(self.laptop, self.server)
        self.host = f"ssh://{ALIAS}{box.socket}"
        self.project = directory(self.laptop, "project")

    def riseml(self, *argv: str, host: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run it on the laptop. That its output ends tells, too, that no process holds it open."""
        with self.start(*argv, host=host, **env) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def start(self, *argv: str, host: str = "", **env: str) -> subprocess.Popen[str]:
        base = {"PATH": os.environ["PATH"], "HOME": str(self.laptop.home), "PYTHONPATH": MODULES}
        return subprocess.Popen(
            [self.laptop.python, "-m", "riseml", *argv],
            cwd=self.project,
            env={**base, "RISEML_HOST": host or self.host, **env},
            user=self.laptop.uid,
            group=self.laptop.gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def train(self, text: str, **env: str) -> str:
        (self.project / "riseml.yml").write_text(text)
        done = self.riseml("train", "-d", "--json", **env)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["id"])

    def calls(self) -> list[int]:
        """The ssh processes of the laptop's user, kept connections left out."""
        return [pid for pid, command in self._ssh().items() if "[mux]" not in command]

    def _ssh(self) -> dict[int, str]:
        found = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                place = Path("/proc", name)
                alive = (place / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
                command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                mine = place.stat().st_uid == self.laptop.uid
                if alive and mine and command.startswith("ssh"):
                    found[int(name)] = command
        return found

    def listening(self) -> list[str]:
        """The ports on which the laptop's user has something listen."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return [row[1] for row in rows if row[3] == "0A" and int(row[7]) == self.laptop.uid]

    def kill_ssh(self) -> None:
        """`kill -9` of every one, kept connections included."""
        found = self._ssh()
        assert found
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    need(os.getuid() == 0, "root, to let sshd serve others")
    made = Sshd(tmp_path)
    yield made
    made.close()


@pytest.fixture
def desk(shared: Box, sshd: Sshd, users: Users) -> Desk:
    return Desk(shared, sshd, users)


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that riseml said of it; ssh's own may stand above."""
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("riseml: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.endswith(lines[0] + "\n")
    return lines[0].removeprefix("riseml: ")


def test_the_daemon_sees_whoever_logged_in(desk: Desk) -> None:
    done = desk.riseml("whoami")
    assert done.stdout.startswith(f"{desk.server.name} (uid {desk.server.uid})"), done.stderr
    assert done.stderr == ""


def test_an_experiment_is_run_followed_and_killed(desk: Desk) -> None:
    text = "project: a\ntrain: {run: [id -un, 'echo $PATH; cat data; exec sleep 1000']}\n"
    (desk.project / "data").write_text("carried along\n")
    number = desk.train(text, PATH=f"{os.environ['PATH']}:/only/on/the/laptop", CONDA_PREFIX="/c")
    with desk.start("logs", "-f", number) as following:
        assert following.stdout is not None
        texts = (line.rstrip("\n").partition("] ")[2] for line in following.stdout)
        seen = []
        while "carried along" not in seen:
            seen.append(next(texts))
        assert desk.server.name in seen
        assert not [line for line in seen if "/only/on/the/laptop" in line]
        assert "RUNNING" in desk.riseml("status", number).stdout
        assert desk.riseml("kill", number).stdout == f"killed experiment {number}\n"
        following.communicate(timeout=PATIENCE)
    assert following.returncode == 0
    assert desk.sshd.connections == 1


def test_train_follows_to_the_end_and_gives_the_outcome(desk: Desk) -> None:
    (desk.project / "riseml.yml").write_text("project: a\ntrain: {run: 'echo hello; false'}\n")
    done = desk.riseml("train")
    assert done.returncode == 1, done.stderr
    assert "] hello\n" in done.stdout
    assert "--> FAILED" in done.stdout


def test_one_connection_serves_many_commands_and_nothing_else_is_left(desk: Desk) -> None:
    took = []
    for _ in range(3):
        begin = time.monotonic()
        assert desk.riseml("whoami").returncode == 0
        took.append(time.monotonic() - begin)
        assert desk.calls() == []
    assert desk.sshd.connections == 1
    print("first, second and third command took", *(f"{seconds:.3f} s" for seconds in took))
    (kept,) = (desk.laptop.home / ".cache" / "riseml").iterdir()
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_uid == desk.laptop.uid


def test_a_place_for_kept_connections_that_others_can_write_to_is_not_used(desk: Desk) -> None:
    place = directory(desk.laptop, ".cache", "riseml")
    place.chmod(0o777)
    for _ in range(2):
        assert desk.riseml("whoami").returncode == 0
    assert desk.sshd.connections == 2
    assert list(place.iterdir()) == []
    (desk.project / "riseml.yml").write_text("project: a\ntrain: {run: 'echo hello'}\n")
    assert desk.riseml("train").returncode == 0
    assert desk.sshd.connections == 3  # though it asks for several things


def test_an_open_connection_of_the_users_own_is_used(desk: Desk) -> None:
    control = desk.laptop.home / "own"
    desk.sshd.admit(desk.laptop, desk.server, f"ControlPath {control}", "ControlMaster auto")
    env = {"PATH": os.environ["PATH"], "HOME": str(desk.laptop.home)}
    own = ["ssh", "-T", ALIAS, "echo there; cat"]
    with subprocess.Popen(
        own,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
        user=desk.laptop.uid,
        group=desk.laptop.gid,
        extra_groups=[],
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"there\n"
        assert desk.riseml("whoami").returncode == 0
        assert desk.sshd.connections == 1
        process.stdin.close()
        assert process.wait() == 0
    assert desk.riseml("whoami").returncode == 0  # and one is kept where there is none
    assert desk.riseml("whoami").returncode == 0
    assert desk.sshd.connections == 2


WRITER = """\
project: a
train:
  run: mkfifo -m 666 $OUTPUT_DIR/go; exec 3<> $OUTPUT_DIR/go; echo ready; while read x <&3; do
    echo $x; [ $x != 4 ] || exit 0; done
"""


@pytest.mark.slow
def test_a_follower_survives_whatever_breaks_the_connection(desk: Desk) -> None:
    number = desk.train(WRITER)
    with desk.start("logs", "-f", number) as following:
        assert following.stdout is not None
        texts = (line.rstrip("\n").partition("] ")[2] for line in following.stdout)
        while next(texts) != "ready":
            pass
        (go,) = desk.box.output.rglob("go")
        seen = []
        for line, cut in enumerate([lambda: None, desk.kill_ssh, desk.sshd.cut, desk.kill_ssh], 1):
            cut()
            go.write_text(f"{line}\n")
            seen.append(next(texts))
        seen += [text for text in texts if "--> " in text or text.isdigit()]
    assert seen == ["1", "2", "3", "4", "--> FINISHED"]
    assert following.returncode == 0
    assert desk.calls() == []


def test_ctrl_c_leaves_no_process_behind(desk: Desk) -> None:
    number = desk.train("project: a\ntrain: {run: 'echo ready; exec sleep 1000'}\n")
    with desk.start("logs", "-f", number) as following:
        assert following.stdout is not None
        while "ready" not in following.stdout.readline():
            pass
        assert desk.calls()
        os.killpg(following.pid, signal.SIGINT)
        _, err = following.communicate(timeout=PATIENCE)
    assert (following.returncode, err) == (130, "")
    assert desk.calls() == []


def test_a_command_that_is_killed_leaves_no_process_behind(desk: Desk) -> None:
    number = desk.train("project: a\ntrain: {run: 'echo ready; exec sleep 1000'}\n")
    with desk.start("logs", "-f", number) as following:
        assert following.stdout is not None
        while "ready" not in following.stdout.readline():
            pass
        calls = [os.pidfd_open(pid) for pid in desk.calls()]
        following.kill()
    for fd in calls:
        assert select.select([fd], [], [], PATIENCE)[0]
        os.close(fd)


def test_a_server_that_ssh_does_not_let_in_is_one_clear_error(desk: Desk) -> None:
    shutil.rmtree(desk.server.home / ".ssh")
    done = desk.riseml("status")
    assert "Permission denied" in done.stderr
    assert failure(done) == (
        f"ssh cannot reach the daemon on {ALIAS}; when ssh {ALIAS} works, this does, too"
    )
    assert desk.calls() == []


def test_another_host_key_is_one_clear_error(desk: Desk) -> None:
    known = desk.laptop.home / ".ssh" / "known_hosts"
    other = (desk.laptop.home / ".ssh" / "id_ed25519.pub").read_text()
    known.write_text(f"[127.0.0.1]:{desk.sshd.port} {other}")
    done = desk.riseml("status")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert "ssh cannot reach" in failure(done)


def test_an_unknown_host_is_one_clear_error(desk: Desk) -> None:
    done = desk.riseml("status", host="ssh://paul@no-such-host.invalid:2022")
    assert "Could not resolve hostname" in done.stderr
    assert "when ssh -p 2022 paul@no-such-host.invalid works" in failure(done)


def test_a_broken_ssh_config_is_one_clear_error(desk: Desk) -> None:
    desk.sshd.admit(desk.laptop, desk.server, "NoSuchOption yes")
    assert "Bad configuration option: nosuchoption" in failure(desk.riseml("status"))


def test_no_daemon_there_is_one_clear_error(desk: Desk) -> None:
    error = failure(desk.riseml("logs", "-f", "1", host=f"ssh://{ALIAS}/no%20where/s"))
    assert error == (
        f"on {ALIAS}: there is no daemon at /no where/s; start it: rised --socket /no where/s"
    )


def test_another_version_of_the_daemon_is_told_with_its_host(desk: Desk) -> None:
    fake = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('s'); s.listen(); print(1);"
        "c = s.accept()[0]; c.recv(9999);"
        "c.sendall(b'HTTP/1.1 200 OK\\r\\nRised-Api: 9\\r\\nContent-Length: 2\\r\\n\\r\\n{}')"
    )
    place = directory(desk.server, "fake")
    with subprocess.Popen(
        [desk.server.python, "-uc", fake],
        cwd=place,
        stdout=subprocess.PIPE,
        user=desk.server.uid,
        group=desk.server.gid,
        extra_groups=[],
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        error = failure(desk.riseml("whoami", host=f"ssh://{ALIAS}{place}/s"))
    assert f"the daemon on {ALIAS} speaks version 9 of the API" in error
    assert "this riseml is the older one; type here: pip install" in error


def test_a_server_without_riseml_needs_only_a_python(desk: Desk) -> None:
    shutil.rmtree(desk.server.home / ".local")
    assert desk.riseml("whoami").stdout.startswith(desk.server.name)
    text = "project: a\ntrain: {run: 'wc -c < large'}\n"
    (desk.project / "large").write_bytes(os.urandom(3 << 20))
    number = desk.train(text)
    assert f"] {3 << 20}\n" in desk.riseml("logs", "-f", number).stdout
    error = failure(desk.riseml("whoami", host=f"ssh://{ALIAS}/nowhere"))
    assert f"on {ALIAS}: " in error
    assert error == (
        f"on {ALIAS}: there is none at /nowhere (No such file or directory), and riseml is not on "
        f"PATH there to start one; install riseml there, or {hint(desk)}"
    )


def hint(desk: Desk) -> str:
    """How every error about a missing riseml names the setting."""
    path = desk.laptop.home / ".config" / "riseml" / "config.yml"
    return (
        f"write into {path} how it is called there: remote-command: {{{ALIAS}: ~/venv/bin/riseml}}"
    )


def test_a_riseml_that_is_not_on_the_path_is_named_by_a_setting(desk: Desk) -> None:
    shutil.rmtree(desk.server.home / ".local")
    place = directory(desk.laptop, ".config", "riseml") / "config.yml"
    place.write_text(f"remote-command: {{{ALIAS}: ~/venv/bin/riseml}}\n")
    missing = f"on {ALIAS}: there is no command ~/venv/bin/riseml; {hint(desk)}"
    assert failure(desk.riseml("whoami")) == missing
    directory(desk.server, "venv", "bin", "riseml")
    assert failure(desk.riseml("whoami")) == missing
    (desk.server.home / "venv/bin/riseml").rmdir()
    path = install_riseml(desk.server, "venv", "bin")
    path.chmod(0o644)
    assert failure(desk.riseml("whoami")) == missing
    path.write_text(path.read_text().replace("\n", f"\ndate > {desk.server.home}/called\n", 1))
    path.chmod(0o755)
    done = desk.riseml("whoami")
    assert done.stdout.startswith(desk.server.name), done.stderr
    assert (desk.server.home / "called").exists()
    for name in (f"someone@{ALIAS}", "other"):
        place.write_text(f"remote-command: {{{name}: ~/no, {ALIAS}: env A=1 ~/venv/bin/riseml}}\n")
        assert desk.riseml("whoami").stdout == done.stdout
    path.write_text("#!/bin/sh\nexit 7\n")
    error = failure(desk.riseml("whoami"))
    assert error.startswith(f"on {ALIAS}: env A=1 ~/venv/bin/riseml pipe ended without a word")
    assert error.endswith(hint(desk))


def test_no_python_there_either_is_told_with_the_setting(desk: Desk) -> None:
    shutil.rmtree(desk.server.home / ".local")
    program = shutil.which("bash")
    need(program is not None, "bash")
    subprocess.run(["usermod", "--shell", str(program), desk.server.name], check=True)
    (desk.server.home / ".bashrc").write_text('PATH=/nowhere; sh() { /bin/sh "$@"; }\n')
    assert failure(desk.riseml("whoami")) == (
        f"on {ALIAS}: neither riseml nor python3 is on PATH there; "
        f"install riseml there, or {hint(desk)}"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_any_login_shell_will_do_whatever_it_prints(desk: Desk, shell: str) -> None:
    program = shutil.which(shell)
    need(program is not None, shell)
    subprocess.run(["usermod", "--shell", str(program), desk.server.name], check=True)
    for name in (".bashrc", ".zshenv", ".cshrc", ".config/fish/config.fish"):
        path = desk.server.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("echo 'Welcome! riseml-pipe is'; echo\n")
    done = desk.riseml("whoami")
    assert done.stdout.startswith(desk.server.name), done.stderr
    shutil.rmtree(desk.server.home / ".local")
    assert desk.riseml("whoami").stdout == done.stdout


needs_own = pytest.mark.skipif(
    os.path.exists(SYSTEM_SOCKET), reason="this machine has a rised for all its users"
)


@needs_own
def test_a_configuration_that_names_the_server_itself_is_no_circle(desk: Desk) -> None:
    place = directory(desk.server, ".config", "riseml")
    (place / "config.yml").write_text("host: ssh://localhost:1\n")
    done = desk.riseml("whoami", host=f"ssh://{ALIAS}")
    assert done.stdout.startswith(desk.server.name), done.stderr


@needs_own
def test_the_first_command_starts_the_users_own_daemon_there(desk: Desk) -> None:
    done = desk.riseml("system", "info", "-l", host=f"ssh://{ALIAS}")
    assert f"State: {desk.server.home}/.local/state/rised" in done.stdout, done.stderr
    again = desk.riseml("system", "info", "-l", host=f"ssh://{ALIAS}")
    assert again.stdout == done.stdout


@needs_own
def test_a_daemon_of_the_users_own_is_found_without_riseml_on_the_path(
    desk: Desk, own_daemon: str
) -> None:
    shutil.rmtree(desk.server.home / ".local" / "bin")
    assert own_daemon.startswith(f"ssh://{ALIAS}/")  # listens at a place of its own
    done = desk.riseml("system", "info", "-l", host=f"ssh://{ALIAS}")
    assert f"State: {desk.server.home}/.local/state/rised" in done.stdout, done.stderr


@needs_own
def test_no_daemon_of_the_users_own_is_one_clear_error(desk: Desk) -> None:
    shutil.rmtree(desk.server.home / ".local")
    lock = directory(desk.server, ".local", "state", "rised") / "lock"
    said = (
        f"on {ALIAS}: you have no daemon that runs there, and riseml is not on PATH there to "
        f"start one; install riseml there, or {hint(desk)}"
    )
    # Another user's, one that has ended, a path that is none, half a file, and no file at all.
    for text in (f"1\n{desk.box.socket}\n", "1\n/nowhere\n", "1\n\0\n", "1", ""):
        lock.write_text(text)
        assert failure(desk.riseml("whoami", host=f"ssh://{ALIAS}")) == said
    lock.unlink()
    os.mkfifo(lock)
    lock.chmod(0o666)
    assert failure(desk.riseml("whoami", host=f"ssh://{ALIAS}")) == said


def test_the_host_may_stand_in_the_users_configuration(desk: Desk) -> None:
    place = directory(desk.laptop, ".config", "riseml")
    (place / "config.yml").write_text(f"# mine\nhost: {desk.host}\n")
    done = desk.laptop.riseml("whoami")
    assert done.stdout.startswith(desk.server.name), done.stderr
    (place / "config.yml").write_text("host: ssh://-oProxyCommand=touch${IFS}owned\n")
    done = desk.laptop.riseml("whoami")
    assert f"{place}/config.yml:1: host: " in failure(done)
    assert not (desk.laptop.home / "owned").exists()


@pytest.fixture
def own_daemon(desk: Desk) -> Iterator[str]:
    """The address of a daemon that the server's user runs in an environment of their own."""
    server = desk.server
    place = directory(server, "env")
    made = server.run(server.python, "-m", "venv", "--without-pip", str(place))
    assert made.returncode == 0, made.stderr
    (site,) = place.glob("lib/*/site-packages")
    (site / "riseml.pth").write_text(MODULES.replace(":", "\n"))
    path = server.home / "s"
    reader, writer = os.pipe()
    with subprocess.Popen(
        [place / "bin" / "python", "-m", "rised", "--socket", path, "--ready-fd", str(writer)],
        env={"PATH": os.environ["PATH"], "HOME": str(server.home)},
        pass_fds=[writer],
        cwd="/",
        stderr=subprocess.DEVNULL,
        user=server.uid,
        group=server.gid,
        extra_groups=[],
    ) as process:
        os.close(writer)
        with open(reader, "rb") as ready:
            assert ready.read()
        yield f"ssh://{ALIAS}{path}"
        process.terminate()


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


@pytest.mark.slow
def test_a_tensorboard_of_the_server_is_reached_from_the_laptop(
    desk: Desk, own_daemon: str
) -> None:
    need(importlib.util.find_spec("tensorboard") is not None, "TensorBoard")
    desk.host = own_daemon
    number = desk.train(
        "project: a\ntrain: {run: 'echo ready; exec sleep 1000', tensorboard: true}\n"
    )
    with desk.start("tensorboard", "--json", number) as told:
        assert told.stdout is not None
        place = json.loads(told.stdout.readline())["url"]
        assert f"riseml {number}" in ask(f"{place}data/environment")
        os.killpg(told.pid, signal.SIGINT)
        told.communicate(timeout=PATIENCE)
    with pytest.raises(OSError, match="refused"):
        ask(place)
    with desk.start("logs", "-f", f"{number}.tensorboard") as log:
        assert log.stdout is not None
        there = next(line for line in log.stdout if "TensorBoard at" in line).split()[-1]
        log.kill()
    for _ in range(2):
        facts = dict(
            line.split(": ") for line in desk.riseml("status", number).stdout.splitlines() if line
        )
        here = facts["Tensorboard"]
        assert here != there  # where both are one machine, the server has taken its port
        assert ask(f"{here}data/environment") == ask(f"{there}data/environment")
    assert len(desk.listening()) == 1
    desk.riseml("kill", "-f", number)
