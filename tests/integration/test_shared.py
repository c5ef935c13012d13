"""One daemon for all users of a machine: each job has its user's rights, and nobody gets at what is another's."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from box import Box
from people import User
from test_users import SLEEP, TRY_ALL

from riseml_proto.states import State

Users = Callable[..., User]


def train(box: Box, user: User, text: str, *argv: str, umask: int = 0o022, **files: str) -> str:
    """`riseml train -d` by a user; the experiment's ID."""
    project = user.home / "project"
    project.mkdir(exist_ok=True)
    for name, content in {"riseml.yml": text, **files}.items():
        (project / name).write_text(content)
    command = [user.python, "-m", "riseml", "train", "-d", "--json", *argv]
    done = user.run(*command, host=host(box), cwd=project, umask=umask)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def host(box: Box) -> str:
    return f"unix://{box.socket}"


def log(box: Box, user: User, *argv: str) -> list[str]:
    """What a user is shown of a log, without the columns before it."""
    done = user.riseml("logs", *argv, host=host(box))
    assert done.returncode == 0, done.stderr
    return [line.split("] ", 1)[1] for line in done.stdout.splitlines() if ".train" in line]


RIGHTS = """\
project: a
train:
  run: >-
    id -u; id -g; id -G; umask; ulimit -n; pwd; echo $HOME; touch made $OUTPUT_DIR/made;
    stat -c '%u %g %a' . riseml.yml $OUTPUT_DIR $OUTPUT_DIR/riseml-configuration.yml;
    echo again >> /dev/stdout; grep -c . /proc/self/status > $OUTPUT_DIR/lines
"""


def test_a_job_has_the_rights_of_whoever_submitted_it(shared: Box, users: Users) -> None:
    paul = users("riseml-lab")
    (lab,) = paul.groups
    limited = f"ulimit -n 300; umask 027; exec {paul.python} -m riseml train"
    (paul.project / "riseml.yml").write_text(RIGHTS)
    done = paul.run("/bin/sh", "-c", limited, host=host(shared))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = log(shared, paul, "1")
    assert lines == [
        str(paul.uid),
        str(paul.gid),
        f"{paul.gid} {lab}",
        "0027",
        "300",
        f"{shared.state}/work/1.train.1",
        str(paul.home),
        f"{paul.uid} {paul.gid} 700",
        f"{paul.uid} {paul.gid} 644",
        f"{paul.uid} {paul.gid} 700",
        f"{paul.uid} {paul.gid} 600",
        "again",
    ]
    output = shared.output / paul.name / "a" / "1"
    made = (output / "made").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (paul.uid, paul.gid, 0o640)
    assert not (shared.state / "work" / "1.train.1").exists()


def test_nobody_gets_at_what_is_anothers(shared: Box, users: Users) -> None:
    paul, eve = users(), users()
    number = train(shared, paul, SLEEP)
    shared.wait_for_line(number, "secret")
    eves = train(shared, eve, "project: a\ntrain: {run: 'true'}\n")
    assert shared.wait_for_end(eves) is State.FINISHED
    for argv in (
        ["status", number],
        ["status", f"{paul.name}.{number}"],
        ["logs", number],
        ["logs", f"{number}.train"],
        ["kill", "-f", number],
        ["best", number],
        ["tensorboard", number],
        ["monitor", number],
        ["kill", eves, number],
    ):
        done = eve.riseml(*argv, host=host(shared))
        assert (done.returncode, done.stdout) == (2, ""), argv
        assert f"{number} is {paul.name}'s" in done.stderr, argv
    assert json.loads(eve.riseml("monitor", "--json", host=host(shared)).stdout)["jobs"] == []
    kept = [path for top in (shared.state, shared.output) for path in top.rglob("*")]
    kept = [path for path in kept if "python" not in path.parts]
    kept = [path for path in kept if path.lstat().st_uid != eve.uid]
    assert any(path.name.endswith(".log") for path in kept)
    done = eve.run(eve.python, "-c", TRY_ALL, *map(str, kept))
    assert (done.returncode, done.stdout) == (0, "")
    raw = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect(%r);"
        "s.sendall(b'GET /v1/experiments/%s HTTP/1.1\\r\\nHost: a\\r\\nX-User: root\\r\\n"
        "Authorization: Basic cm9vdDo=\\r\\n\\r\\n');print(s.recv(9999).decode())"
    )
    answer = eve.run(eve.python, "-c", raw % (str(shared.socket), number)).stdout
    assert answer.startswith("HTTP/1.1 403")
    assert "secret" not in answer
    assert shared.run("status").stdout.count("RUNNING") == 0  # root's own
    assert "RUNNING" in paul.riseml("status", number, host=host(shared)).stdout


def test_everybody_sees_the_queue_and_no_more_of_it(shared: Box, users: Users) -> None:
    paul, eve = users(), users()
    number = train(
        shared, paul, "project: toaster\ntrain: {run: sleep 1000, resources: {gpus: 3}}\n"
    )
    shared.wait(number, lambda entry: getattr(entry, "state", None) is State.RUNNING)
    mine = eve.riseml("status", host=host(shared)).stdout
    assert len(mine.splitlines()) == 1
    titles, line = eve.riseml("status", "--all-users", host=host(shared)).stdout.splitlines()
    assert titles.split() == ["ID", "USER", "PROJECT", "STATE", "GPUS", "AGE", "TYPE"]
    assert line.split()[:5] == [number, paul.name, "toaster", "RUNNING", "3"]
    (seen,) = json.loads(eve.riseml("status", "--all-users", "--json", host=host(shared)).stdout)
    assert seen["revision"] == ""
    (own,) = json.loads(paul.riseml("status", "--json", host=host(shared)).stdout)
    assert own["revision"]


def test_administrators_may_what_root_may(
    make_shared_box: Callable[..., Box], users: Users
) -> None:
    paul, boss = users(), users("riseml-admins")
    shared = make_shared_box(gpus=4, admin_group="riseml-admins")
    shared.start()
    number = train(shared, paul, SLEEP)
    shared.wait_for_line(number, "secret")
    assert log(shared, boss, number) == ["secret"]
    assert boss.riseml("kill", "-f", number, host=host(shared)).returncode == 0
    assert shared.wait_for_end(number) is State.KILLED
    assert paul.riseml("system", "prune", host=host(shared)).returncode == 2


def test_a_group_keeps_others_out(make_shared_box: Callable[..., Box], users: Users) -> None:
    paul, eve = users("riseml-lab"), users()
    shared = make_shared_box(gpus=4, group="riseml-lab")
    shared.start()
    assert paul.riseml("whoami", host=host(shared)).stdout.startswith(f"{paul.name} ")
    done = eve.riseml("whoami", host=host(shared))
    assert done.returncode == 2
    assert "riseml-lab" in done.stderr


def test_commands_that_a_user_puts_first_in_the_path_never_run_as_root(
    shared: Box, users: Users
) -> None:
    eve = users()
    trap = eve.home / "bin"
    trap.mkdir()
    for name in ("prlimit", "sh", "id", "setpriv", "env", "cat"):
        (trap / name).write_text('#!/bin/sh\n/usr/bin/id -u >> "${0%/*}/who"; exec /usr/bin/true\n')
        (trap / name).chmod(0o755)
    os.chown(trap, eve.uid, eve.gid)
    eve.home.chmod(0o755)
    text = "project: a\ntrain:\n  run: id; prlimit\n  env: {PATH: '%s:/usr/bin', ENV: '%s/sh'}\n"
    number = train(shared, eve, text % (trap, trap))
    assert shared.wait_for_end(number) is State.FINISHED
    assert set((trap / "who").read_text().split()) == {str(eve.uid)}


@pytest.mark.parametrize("level", ["user", "project", "set"])
def test_a_link_in_place_of_an_output_directory_leads_nobody_elsewhere(
    shared: Box, users: Users, level: str
) -> None:
    paul, eve = users(), users()
    first = train(shared, paul, "project: a\ntrain: {run: 'echo hidden > $OUTPUT_DIR/result'}\n")
    assert shared.wait_for_end(first) is State.FINISHED
    quick = "project: b\ntrain: {run: 'echo x > $OUTPUT_DIR/mine; echo done'}\n"
    assert shared.wait_for_end(train(shared, eve, quick)) is State.FINISHED
    theirs, own = shared.output / paul.name, shared.output / eve.name
    places = {"user": own, "project": own / "b", "set": own / "b" / "3"}
    targets = {"user": theirs, "project": theirs / "a", "set": theirs / "a" / first}
    swap = f"rm -rf {places[level]}; ln -sT {targets[level]} {places[level]}"
    swapped = eve.run("/bin/sh", "-c", swap).returncode == 0
    assert swapped is (level != "user")  # what is above that one is not hers
    number = train(shared, eve, quick)
    ended = shared.wait_for_end(number)
    assert ended is (State.FAILED if swapped else State.FINISHED)
    if swapped:
        shown = eve.riseml("status", number, host=host(shared)).stdout
        assert "START_FAILED" in shown
    found = sorted(path.name for path in theirs.rglob("*") if path.is_file())
    assert found == ["result", "riseml-configuration.yml"]


def test_results_are_read_with_the_rights_of_whoever_reports_them(
    shared: Box, users: Users
) -> None:
    paul, eve = users(), users()
    report = "echo '{\"secret\": 42}' > $OUTPUT_DIR/riseml-results.jsonl"
    first = train(shared, paul, f"project: a\ntrain: {{run: {json.dumps(report)}}}\n")
    assert shared.wait_for_end(first) is State.FINISHED
    assert "secret" in paul.riseml("status", first, "--json", host=host(shared)).stdout
    theirs = shared.output / paul.name / "a" / first
    for steal in (
        f"ln -s {theirs}/riseml-results.jsonl $OUTPUT_DIR/riseml-results.jsonl",
        f"cd /; rm -rf $OUTPUT_DIR; ln -s {theirs} $OUTPUT_DIR",
        "mkfifo $OUTPUT_DIR/riseml-results.jsonl",
    ):
        number = train(shared, eve, f"project: b\ntrain: {{run: {json.dumps(steal)}}}\n")
        assert shared.wait_for_end(number) is State.FINISHED
        shown = eve.riseml("status", number, "--json", host=host(shared)).stdout
        assert "secret" not in shown


def test_what_a_working_copy_was_made_to_lead_to_stays(shared: Box, users: Users) -> None:
    paul, eve = users(), users()
    victim = paul.home / "precious"
    victim.mkdir()
    (victim / "file").write_text("still here")
    paul.home.chmod(0o755)
    mess = (
        f"ln -s {victim} link; mkdir -p deep/er; chmod 000 deep/er; ln -s {victim} deep/link;"
        f" chmod 500 deep; rm riseml.yml; ln -s /etc/passwd riseml.yml"
    )
    number = train(shared, eve, f"project: b\ntrain: {{run: {json.dumps(mess)}}}\n")
    assert shared.wait_for_end(number) is State.FINISHED
    shared.stop()
    assert list((shared.state / "work").iterdir()) == []
    assert (victim / "file").read_text() == "still here"
    assert os.stat("/etc/passwd").st_uid == 0


MOVER = """\
import os, sys
place, aside, victim = sys.argv[1:]
print("ready", flush=True)
while os.path.isdir("/proc/%d" % os.getppid()) and not os.path.exists(aside + "/stop"):
    try:
        os.rename(place, aside + "/was"); os.symlink(victim, place)
        os.unlink(place); os.rename(aside + "/was", place)
    except OSError:
        pass
"""


@pytest.mark.slow
def test_what_is_swapped_while_the_daemon_works_on_it_gains_nothing(
    shared: Box, users: Users
) -> None:
    paul, eve = users(), users()
    first = train(shared, paul, "project: a\ntrain: {run: 'echo hidden > $OUTPUT_DIR/result'}\n")
    assert shared.wait_for_end(first) is State.FINISHED
    theirs, own = shared.output / paul.name / "a", shared.output / eve.name
    sweep = (
        "project: b\ntrain:\n  concurrency: 4\n  run: mkdir -p x/y; touch x/y/{{n}}; echo {{n}}\n"
        "  parameters: {n: {range: {min: 1, max: 40, step: 1}}}\n"
    )
    assert shared.wait_for_end(train(shared, eve, sweep)) is State.FINISHED
    aside = eve.home / "aside"
    aside.mkdir()
    os.chown(aside, eve.uid, eve.gid)
    with subprocess.Popen(
        [eve.python, "-c", MOVER, str(own / "b"), str(aside), str(theirs)],
        user=eve.uid,
        group=eve.gid,
        extra_groups=[],
        stdout=subprocess.PIPE,
    ) as mover:
        assert mover.stdout is not None
        mover.stdout.readline()
        for _ in range(3):
            shared.wait_for_end(train(shared, eve, sweep))
        (aside / "stop").touch()
    found = sorted(path.relative_to(theirs) for path in theirs.rglob("*"))
    assert found == [Path(first), Path(first, "result"), Path(first, "riseml-configuration.yml")]


def test_an_exit_code_cannot_be_forged_for_another(shared: Box, users: Users) -> None:
    paul, eve = users(), users()
    forge = (
        f"for f in {shared.state}/run/*; do echo 0 1<>$f && echo forged $f; done;"
        f" echo tried; ls {shared.state}/run {shared.state}/work | wc -l"
    )
    number = train(shared, paul, "project: a\ntrain: {run: 'echo on; sleep 1000'}\n")
    shared.wait_for_line(number, "on")
    runs = sorted(path.name for path in (shared.state / "run").iterdir())
    tries = " ".join(f"{shared.state}/run/{name}" for name in runs)
    forge = f"for f in {tries}; do echo 0 1<>$f && echo forged $f; done; echo tried"
    eves = train(shared, eve, f"project: b\ntrain: {{run: {json.dumps(forge)}}}\n")
    assert shared.wait_for_end(eves) is State.FINISHED
    lines = log(shared, eve, eves)
    assert "tried" in lines
    assert not [line for line in lines if line.startswith("forged")]
    assert "RUNNING" in paul.riseml("status", number, host=host(shared)).stdout


def test_jobs_of_several_users_survive_the_daemon(shared: Box, users: Users) -> None:
    paul, eve = users(), users()
    text = "project: a\ntrain: {run: 'mkfifo f; echo on; read x < f; echo $x; id -u; exit 3'}\n"
    numbers = {user: train(shared, user, text) for user in (paul, eve)}
    for number in numbers.values():
        shared.wait_for_line(number, "on")
    shared.kill_daemon()
    shared.start()
    for user, number in numbers.items():
        fifo = shared.state / "work" / f"{number}.train.1" / "f"
        assert user.run("/bin/sh", "-c", f"echo over > {fifo}").returncode == 0
        assert shared.wait_for_end(number) is State.FAILED
        assert log(shared, user, number) == ["on", "over", str(user.uid)]
        assert '"exit_code": 3' in user.riseml("status", number, "--json", host=host(shared)).stdout
