"""The server as an administrator has it: installed by one command, run by a real systemd, used by a user."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine

pytestmark = pytest.mark.slow

INSTALL = "/opt/source/scripts/install-server"
PYTHON = f"python3.{sys.version_info[1]}"
BLOCKED = "mkfifo f; echo on; id -un; read x < f; echo $x"


@pytest.fixture(scope="module")
def machine(binary: Path) -> Iterator[Machine]:
    """A machine with the server, and a user paul."""
    made = Machine()
    try:
        shutil.copy(binary, made.root / "opt" / "rised")
        made.boot()
        made.run("useradd", "--create-home", "paul")
        done = made.run(INSTALL, "--wheels", "/opt/wheels")
        assert done.stdout.endswith("serves this machine's users: riseml train\n")
        yield made
    finally:
        made.close()


def train(machine: Machine, run: str, more: str = "") -> str:
    """`riseml train -d` by paul; the experiment's ID."""
    text = f"project: a\ntrain:\n  run: {json.dumps(run)}\n{more}"
    home = machine.root / "home" / "paul"
    (home / "project").mkdir(exist_ok=True)
    (home / "project" / "riseml.yml").write_text(text)
    done = machine.run("sh", "-c", "cd project && exec riseml train -d --json", user="paul")
    return str(json.loads(done.stdout)["id"])


def lines(machine: Machine, number: str, *argv: str) -> list[str]:
    """What a job has written."""
    shown = machine.run("riseml", "logs", number, *argv, user="paul").stdout.splitlines()
    return [line.split("] ", 1)[1] for line in shown if ".train " in line]


def wait_for(machine: Machine, number: str, line: str) -> None:
    """Follow a job until it has written a line."""
    follow = (
        'd=$(mktemp -d); mkfifo $d/f; riseml logs -f "$0" > $d/f & grep -q -F "] $1" < $d/f;'
        " code=$?; kill $!; rm -r $d; exit $code"
    )
    machine.run("sh", "-c", follow, number, line, user="paul")


def state(machine: Machine, number: str) -> tuple[str, str | None]:
    """An experiment's state and the reason for it."""
    told = machine.run("riseml", "status", number, "--json", user="paul").stdout
    (member,) = json.loads(told)["experiments"]
    return member["state"], member["reason"]


def job_pid(machine: Machine, number: str) -> str:
    """The pid of a job's shell, as the machine numbers it."""
    procs = f"/sys/fs/cgroup/rised.slice/rised-jobs.scope/{number}.train.1/cgroup.procs"
    return machine.run("head", "-n", "1", procs).stdout.strip()


def main_pid(machine: Machine) -> str:
    return machine.run("systemctl", "show", "-P", "MainPID", "rised").stdout.strip()


def let_go(machine: Machine, number: str) -> None:
    fifo = f"/var/lib/rised/work/{number}.train.1/f"
    machine.run("sh", "-c", f"echo over > {fifo}", user="paul")


def test_the_units_are_as_systemd_wants_them(machine: Machine) -> None:
    done = machine.run(
        "systemd-analyze", "verify", "--man=no", "rised.service", "rised.socket", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = machine.run("systemctl", "is-active", "rised.service", "rised.socket").stdout
    assert shown.split() == ["active", "active"]
    assert "serving" in machine.run("systemctl", "status", "rised").stdout


def test_a_first_command_starts_the_server_through_its_socket(machine: Machine) -> None:
    machine.run("systemctl", "stop", "rised.service")
    assert machine.run("riseml", "whoami", user="paul").stdout.startswith("paul ")
    assert machine.run("systemctl", "is-active", "rised").stdout == "active\n"


def test_a_stopped_server_says_so(machine: Machine) -> None:
    machine.run("systemctl", "stop", "rised.socket", "rised.service")
    machine.run("test", "!", "-e", "/run/rised/rised.sock")
    done = machine.run("riseml", "whoami", user="paul", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "riseml: this machine has a rised for all its users, which does not run; to start it:"
        " sudo systemctl start rised.socket\n"
    )
    machine.run("systemctl", "start", "rised.socket")
    machine.run("riseml", "whoami", user="paul")


def upgrade(machine: Machine, how: str) -> None:
    """From packages to newer packages, to the one file, and back; what follows runs on the one file."""
    prefix, unpacked = machine.root / "opt" / "riseml", machine.root / "var" / "cache" / "rised"
    packages = prefix / "lib" / PYTHON / "site-packages"
    if how == "upgrade":
        old = packages / "riseml-0.1.0.dist-info"  # as the distribution was called once
        old.mkdir()
        (old / "METADATA").write_text("Metadata-Version: 2.1\nName: riseml\nVersion: 0.1.0\n")
    if how in ("upgrade", "back"):
        machine.run(INSTALL, "--wheels", "/opt/wheels")
        assert [path.name for path in packages.glob("rise*.dist-info")] == ["rised-0.1.0.dist-info"]
        assert not [path for path in unpacked.glob("*") if path.is_dir()]
    else:
        (unpacked / "0ld").mkdir(parents=True, exist_ok=True)
        machine.run(INSTALL, "--binary", "/opt/rised")
        assert sorted(path.name for path in prefix.rglob("*")) == ["bin", "rised", "riseml"]
        assert len([path for path in unpacked.glob("*") if path.is_dir()]) == 1
        assert not (machine.root / "home" / "paul" / ".cache").exists()


@pytest.mark.parametrize(
    "how", ["restart", "kill", "stop", "upgrade", "to one file", "back", "to one file again"]
)
def test_jobs_run_on_whatever_happens_to_the_daemon(machine: Machine, how: str) -> None:
    number = train(machine, BLOCKED)
    wait_for(machine, number, "on")
    before, daemon = job_pid(machine, number), main_pid(machine)
    if how == "restart":
        machine.run("systemctl", "restart", "rised")
    elif how == "kill":
        machine.run("sh", "-c", f"kill -KILL {daemon}")
    elif how == "stop":
        machine.run("systemctl", "stop", "rised.service", "rised.socket")
        assert job_pid(machine, number) == before
        machine.run("systemctl", "start", "rised.socket")
    else:
        upgrade(machine, how)
    assert state(machine, number) == ("RUNNING", None)
    assert main_pid(machine) != daemon
    assert job_pid(machine, number) == before
    let_go(machine, number)
    wait_for(machine, number, "over")
    assert lines(machine, number, "-f") == ["on", "paul", "over"]
    assert state(machine, number) == ("FINISHED", "COMPLETED")


def test_a_daemon_that_hangs_is_replaced(machine: Machine) -> None:
    place = "/run/systemd/system/rised.service.d"
    machine.run(
        "sh", "-c", f"mkdir -p {place}; printf '[Service]\\nWatchdogSec=1\\n' > {place}/t.conf"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "rised")
    number, daemon = train(machine, BLOCKED), main_pid(machine)
    wait_for(machine, number, "on")
    machine.run("sh", "-c", f"kill -STOP {daemon}")
    assert state(machine, number) == ("RUNNING", None)  # the command waits in line
    assert main_pid(machine) != daemon
    let_go(machine, number)
    assert lines(machine, number, "-f") == ["on", "paul", "over"]
    machine.run("rm", "-r", place)
    machine.run("systemctl", "daemon-reload")


def test_who_stops_the_jobs_scope_ends_them_and_new_ones_start(machine: Machine) -> None:
    number = train(machine, BLOCKED)
    wait_for(machine, number, "on")
    machine.run("systemctl", "stop", "rised-jobs.scope")
    lines(machine, number, "-f")
    assert state(machine, number)[0] == "FAILED"
    again = train(machine, "cat /proc/self/cgroup")
    *_, group = lines(machine, again, "-f")
    assert group == f"0::/rised.slice/rised-jobs.scope/{again}.train.1"


def test_jobs_end_with_the_daemon_where_that_is_configured(machine: Machine) -> None:
    config = machine.root / "etc" / "rised" / "config.yml"
    before = config.read_text()
    config.write_text("stop-jobs: true\n")
    machine.run("systemctl", "restart", "rised")
    number = train(machine, BLOCKED)
    wait_for(machine, number, "on")
    machine.run("systemctl", "stop", "rised.service")
    config.write_text(before)
    assert state(machine, number) == ("KILLED", "KILLED")


def test_after_a_loss_of_power_the_queue_goes_on(machine: Machine) -> None:
    all_cpus = f"  resources: {{cpus: {machine.run('nproc').stdout.strip()}}}\n"
    lost = train(machine, BLOCKED)
    again = train(
        machine,
        "echo on; test -e $HOME/done || { touch $HOME/done; sleep 1000; }",
        "  retries: 1\n",
    )
    for number in (lost, again):
        wait_for(machine, number, "on")
    big = train(
        machine, "echo big; test -e $HOME/big || { touch $HOME/big; sleep 1000; }", all_cpus
    )
    wait_for(machine, big, "big")
    queued = train(machine, "echo at last", all_cpus)
    assert state(machine, queued)[0] == "PENDING"
    machine.run("sync")
    machine.lose_power()
    machine.boot()
    assert lines(machine, queued, "-f") == ["at last"]
    assert state(machine, queued) == ("FINISHED", "COMPLETED")
    assert state(machine, lost) == ("FAILED", "LOST")
    assert state(machine, big) == ("FAILED", "LOST")
    assert lines(machine, again, "-f") == ["on", "on"]
    assert state(machine, again) == ("FINISHED", "COMPLETED")


def test_it_is_removed_as_it_was_installed(machine: Machine) -> None:
    manual = machine.root / "usr/local/share/man"
    pages = manual / "man1/riseml.1", manual / "man8/rised.8"
    assert all(page.exists() for page in pages)
    number = train(machine, BLOCKED)
    wait_for(machine, number, "on")
    asked = machine.run(INSTALL, "--uninstall", check=False)
    assert (asked.returncode, asked.stderr) == (
        2,
        "install-server: 1 job runs and would be ended; to end what runs, say --yes, too\n",
    )
    assert state(machine, number) == ("RUNNING", None)
    machine.run(INSTALL, "--uninstall", "--yes")
    assert (
        machine.run("systemctl", "list-unit-files", "rised*", check=False).stdout.count("rised")
        == 0
    )
    assert not any(page.exists() for page in pages)
    for path in (
        "/opt/riseml",
        "/var/cache/rised",
        "/usr/local/bin/riseml",
        "/run/rised/rised.sock",
    ):
        machine.run("test", "!", "-e", path)
    assert (machine.root / "var/lib/rised/rised.db").exists()
    machine.run(INSTALL, "--uninstall", "--purge")
    assert not (machine.root / "var/lib/rised").exists()
    assert (machine.root / "srv/riseml/output").exists()
