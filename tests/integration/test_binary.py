"""The one file that is daemon and client, in the hands of a user who has a Python and nothing else."""

import fcntl
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aftermath import assert_state_is_clean
from box import BIN, Box, need
from people import MODULES, User, people

pytestmark = pytest.mark.slow

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
DIGITS = Path(__file__).parents[2] / "examples" / "digits"
SHARED = Path("/var/cache/rised")
PATIENCE = 300  # seconds: eight trainings, on a machine that has more to do


class Home:
    """A user who has put the file into `~/bin`, under both its names, and no package anywhere."""

    def __init__(self, user: User, binary: Path) -> None:
        self.user, self.path = user, user.home
        self.bin, self.cache = self.path / "bin", self.path / ".cache" / "rised"
        self.bin.mkdir()
        shutil.copy(binary, self.bin / "rised")
        (self.bin / "riseml").symlink_to("rised")
        # What the training needs is not the file's affair: a Python with scikit-learn, as a virtual environment has it.
        python = self.bin / "python"
        python.write_text(
            f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{MODULES}" exec /usr/bin/python{VERSION} "$@"\n'
        )
        python.chmod(0o755)
        self.env = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.path)}

    def give(self) -> None:
        """Let all that lies there be the user's."""
        owner = f"{self.user.uid}:{self.user.gid}"
        subprocess.run(["chown", "--recursive", owner, self.path], check=True)

    def start(
        self, *argv: str, cwd: str = ".", umask: int = -1, **env: str
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.bin / argv[0], *argv[1:]],
            cwd=self.path / cwd,
            env={**self.env, **env},
            user=self.user.uid,
            group=self.user.gid,
            extra_groups=[],
            umask=umask,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str, code: int = 0, cwd: str = ".", umask: int = -1, **env: str) -> str:
        """What the command prints: of one that fails with `code`, the error."""
        with self.start(*argv, cwd=cwd, umask=umask, **env) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, out + err
        assert "Traceback" not in err
        return err if code else out

    def builds(self) -> list[str]:
        """The directories in its cache."""
        return sorted(path.name for path in self.cache.iterdir() if path.is_dir())

    def change_head(self, old: str, new: str) -> None:
        """Let the file be one that is made for something else."""
        file = self.bin / "rised"
        data = file.read_bytes()
        assert data.count(old.encode(), 0, 1000) == 1
        file.write_bytes(data.replace(old.encode(), new.encode(), 1))


@pytest.fixture
def home(binary: Path) -> Iterator[Home]:
    """Of somebody whose machine has never seen the file."""
    need(os.access(f"/usr/bin/python{VERSION}", os.X_OK), f"/usr/bin/python{VERSION}")
    with open("/tmp/riseml-test-binary.lock", "w") as lock, people() as make:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the machine has one directory for what root unpacks
        need(not SHARED.exists(), f"machine without {SHARED}")
        user = make()
        made = Home(user, binary)
        made.give()
        yield made


def test_the_digits_are_swept_with_one_file_in_an_empty_home(home: Home) -> None:
    shutil.copytree(DIGITS, home.path / "digits")
    home.give()
    if subprocess.run(
        [home.bin / "python", "-c", "import sklearn"], user=home.user.uid, env=home.env, check=False
    ).returncode:
        need(False, "scikit-learn where another user can import it")
    try:
        home.run("riseml", "train", cwd="digits")
        (digits,) = json.loads(home.run("riseml", "status", "-a", "--json"))
        assert (digits["id"], digits["state"]) == ("1", "FINISHED")
        members = json.loads(home.run("riseml", "status", "1", "--json"))["experiments"]
        assert [member["state"] for member in members] == ["FINISHED"] * 8
        assert "accuracy" in home.run("riseml", "best", "1", "--by", "accuracy")
        assert "1.8.train" in home.run("riseml", "logs", "1.8")

        text = "project: endless\ntrain:\n  run: sleep 100000\n"
        (home.path / "digits" / "riseml.yml").write_text(text)
        home.run("riseml", "train", "-d", cwd="digits")
        home.run("riseml", "kill", "2")
        home.run("riseml", "logs", "-f", "2")
        assert "KILLED" in home.run("riseml", "status", "2")
    finally:
        home.run("rised", "--stop")
    assert_state_is_clean(home.path / ".local" / "state" / "rised")
    assert processes(home.user) == []
    assert len(home.builds()) == 1


def processes(user: User) -> list[str]:
    """Command lines of what runs with a user's rights."""
    done = subprocess.run(
        ["ps", "-o", "stat=,args=", "-U", str(user.uid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if not line.startswith("Z")]


def test_its_name_says_which_of_the_two_it_is(home: Home) -> None:
    assert home.run("rised", "--version").startswith("rised ")
    assert home.run("riseml", "--version").startswith("riseml ")
    assert "complete" in home.run("riseml", "completion", "bash")
    (home.bin / "rised-0.1.0").symlink_to("rised")
    assert home.run("rised-0.1.0", "--version").startswith("rised ")
    assert len(home.builds()) == 1


def test_another_python_or_machine_is_one_clear_error(home: Home) -> None:
    home.change_head(f"version='{VERSION}'", "version='2.99'")
    said = home.run("riseml", "status", code=2)
    assert said.startswith("riseml: this file needs Python 2.99, which is not on PATH; ")
    assert said.count("\n") == 1
    home.change_head(f"machine='{os.uname().machine}'", "machine='pdp11'")
    said = home.run("rised", code=2)
    assert said == f"rised: this file is for pdp11; this machine is {os.uname().machine}\n"
    assert not home.cache.exists()


def test_a_path_without_the_systems_programs_is_one_clear_error(home: Home) -> None:
    said = home.run("riseml", "--version", code=2, PATH="")
    assert said == "riseml: PATH names no directory with the system's programs, such as /usr/bin\n"
    home.run("riseml", "--version")
    assert home.run("riseml", "--version", PATH="").startswith("riseml ")


def test_a_damaged_file_is_one_clear_error_and_leaves_nothing(home: Home) -> None:
    file = home.bin / "rised"
    whole = file.read_bytes()
    half = len(whole) // 2
    for damaged in (whole[:half], whole[:half] + b"x" + whole[half + 1 :], whole[:-1]):
        file.write_bytes(damaged)
        assert (
            home.run("riseml", "status", code=2) == "riseml: this file is damaged; copy it again\n"
        )
        assert home.builds() == []


def test_a_cache_that_is_in_the_way_is_no_damage(home: Home) -> None:
    home.cache.mkdir(parents=True)
    home.give()
    home.cache.joinpath("lock").mkdir()
    said = home.run("riseml", "status", code=2)
    assert said == f"riseml: cannot be unpacked into {home.cache}: Is a directory\n"


def test_many_first_starts_at_once_unpack_it_once(home: Home) -> None:
    processes = [home.start("riseml", "--version") for _ in range(8)]
    for process in processes:
        with process:
            out, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, err) == (0, "")
            assert out.startswith("riseml ")
    assert len(home.builds()) == 1


def test_what_a_kill_left_half_unpacked_is_made_anew(home: Home) -> None:
    home.run("riseml", "--version")
    (build,) = home.builds()
    (home.cache / build).rename(home.cache / "new")
    for module in (home.cache / "new").rglob("__main__.py"):
        module.unlink()
    home.run("riseml", "--version")
    assert home.builds() == [build]


def test_it_is_unpacked_anew_for_another_python_where_its_own_is_gone(home: Home) -> None:
    home.run("riseml", "--version")
    (build,) = home.builds()
    link = home.cache / build / "bin" / "python"
    link.unlink()
    link.symlink_to("/gone/bin/python")
    home.run("riseml", "--version")
    assert os.access(link, os.X_OK)


@pytest.mark.parametrize("part", ["bin", "bin/riseml", "lib", "site-packages", "riseml"])
def test_what_was_removed_from_it_is_unpacked_again(home: Home, part: str) -> None:
    home.run("riseml", "--version")
    (build,) = home.builds()
    packages = Path("lib", f"python{VERSION}", "site-packages")
    names = {"site-packages": packages, "riseml": packages / "riseml"}
    path = home.cache / build / names.get(part, part)
    path.rename(home.path / "removed")
    assert home.run("riseml", "--version").startswith("riseml ")
    assert path.exists()


def test_any_file_removed_in_tmp_is_unpacked_again(home: Home) -> None:
    home.run("riseml", "--version", HOME="/nonexistent")
    (file,) = home.user.place.glob("*/lib/*/site-packages/msgspec/__init__.py")
    file.unlink()
    assert home.run("riseml", "--version", HOME="/nonexistent").startswith("riseml ")
    assert file.exists()


def test_two_builds_live_side_by_side(home: Home) -> None:
    home.run("riseml", "--version")
    (build,) = home.builds()
    home.change_head(f"build='{build}'", "build='0'")
    home.run("riseml", "--version")
    assert home.builds() == ["0", build]


def test_a_home_that_cannot_be_written_to_is_no_hindrance(home: Home) -> None:
    for _ in range(2):
        home.run("riseml", "--version", HOME="/nonexistent")
    assert not home.cache.exists()
    assert home.user.place.stat().st_mode & 0o777 == 0o700
    home.run("riseml", "--version", XDG_CACHE_HOME=str(home.path / "elsewhere"))
    assert (home.path / "elsewhere" / "rised" / "lock").exists()


def test_what_another_user_has_unpacked_is_not_run(home: Home) -> None:
    home.run("riseml", "--version")
    (build,) = home.builds()
    (home.cache / build / "bin" / "riseml").write_text("print('not theirs')")
    subprocess.run(["chown", "--recursive", "root", home.cache], check=True)
    assert home.run("riseml", "--version").startswith("riseml ")
    assert (home.user.place / build).is_dir()


def test_nobody_else_can_write_to_what_it_makes(home: Home) -> None:
    home.run("riseml", "--version", umask=0o002)
    for directory in (home.cache, home.cache.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o703])
def test_nothing_is_run_from_a_cache_that_others_can_write_to(home: Home, mode: int) -> None:
    home.run("riseml", "--version")
    (build,) = home.builds()
    (home.cache / build / "bin" / "riseml").write_text("print('not ours')")
    home.cache.chmod(mode)
    assert home.run("riseml", "--version").startswith("riseml ")
    assert (home.user.place / build).is_dir()


def test_a_build_of_another_user_in_an_own_cache_is_not_run(home: Home) -> None:
    home.run("riseml", "--version")
    (build,) = home.builds()
    (home.cache / build / "bin" / "riseml").write_text("print('not ours')")
    subprocess.run(["chown", "--recursive", "root", home.cache / build], check=True)
    said = home.run("riseml", "--version", code=2)
    assert said == f"riseml: cannot be unpacked into {home.cache}: Directory not empty\n"


def test_what_others_have_put_into_tmp_is_not_used(home: Home) -> None:
    home.user.place.mkdir()  # root's
    said = home.run("riseml", "--version", code=2, HOME="/nonexistent")
    assert f"{home.user.place} is yours alone to write to; set XDG_CACHE_HOME" in said


def test_what_root_has_unpacked_serves_everybody(home: Home) -> None:
    try:
        subprocess.run([home.bin / "riseml", "--version"], check=True, umask=0o077, env=home.env)
        assert home.run("riseml", "--version").startswith("riseml ")
        assert not home.cache.exists()
    finally:
        shutil.rmtree(SHARED)


def test_root_uses_no_place_that_others_cannot_read(home: Home) -> None:
    read_only = 'mount -t tmpfs -o ro none /var/cache && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", read_only, "sh", home.bin / "riseml", "--version"],
        capture_output=True,
        text=True,
        env=home.env,
        check=False,
    )
    said = f"riseml: {SHARED} must be a directory that root, and nobody else, can write to\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_root_runs_nothing_from_a_cache_that_others_can_write_to(home: Home) -> None:
    argv = [str(home.bin / "riseml"), "--version"]
    try:
        subprocess.run(argv, check=True, env=home.env)
        SHARED.chmod(0o777)
        assert subprocess.run(argv, check=False, env=home.env).returncode == 2
    finally:
        shutil.rmtree(SHARED)


def test_status_takes_hardly_longer_than_installed(
    home: Home, make_box: Callable[..., Box]
) -> None:
    """CPU time, which other programs on the machine disturb least."""
    box = make_box()
    box.start()
    file = str(home.bin / "riseml")
    try:
        figures: dict[str, list[float]] = {file: [], str(BIN / "riseml"): []}
        for _ in range(12):
            for program, times in figures.items():
                times.append(cpu_seconds(program, box.env))
        one_file, installed = (statistics.median(times[1:]) for times in figures.values())
        assert one_file < 1.5 * installed
    finally:
        shutil.rmtree(SHARED)


def cpu_seconds(program: str, env: dict[str, str]) -> float:
    pid = os.posix_spawn(
        program,
        [program, "status"],
        env,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, code, usage = os.wait4(pid, 0)
    assert code == 0
    return usage.ru_utime + usage.ru_stime
