"""Jobs that do what they should not. Whatever they do, nothing of them stays and the daemon lives.

All run against two daemons: one that has a control group for each job, and one that has to do without.
"""

import os
from collections.abc import Iterator

import pytest
from hostile import Stage, ends, mark

from riseml_proto.messages import LineEntry
from riseml_proto.states import Reason, State

ISOLATIONS = ("cgroup", "session")


@pytest.fixture(scope="module", params=ISOLATIONS)
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("hostile")
    made = Stage(root, isolation=request.param, gpus=2, kill_grace=0.3)
    try:
        made.begin()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param("sleep MARK & exit 0", 0, id="a background process"),
        pytest.param("sleep MARK & exit 5", 5, id="a background process after a failure"),
        pytest.param("setsid sleep MARK & exit 0", 0, id="another session"),
        pytest.param("(setsid sh -c 'sleep MARK & sleep MARK' &) & exit 0", 0, id="forked twice"),
        pytest.param("(env -i /usr/bin/setsid sleep MARK &) & exit 0", 0, id="wiped environment"),
        pytest.param(
            "mkfifo f; setsid sh -c 'trap \"\" TERM; echo > f; while :; do sleep MARK; done' &"
            " read x < f; exit 0",
            0,
            id="deaf to SIGTERM",
        ),
        pytest.param("(trap '' TERM; exec sleep MARK) & exit 0", 0, id="deaf in the background"),
        pytest.param("sleep MARK & kill -STOP $! ; exit 0", 0, id="stopped"),
        pytest.param("sleep MARK & kill -9 $$", 137, id="its shell killed"),
        pytest.param("sleep MARK & kill -9 0", 137, id="its process group killed"),
        pytest.param(
            "i=0; while [ $i -lt 200 ]; do sleep MARK & i=$((i+1)); done; exit 3", 3, id="200 left"
        ),
        pytest.param("exec > /dev/null 2>&1; nohup sleep MARK & exit 0", 0, id="nohup"),
        pytest.param(
            "(env -i /usr/bin/setsid sleep MARK > /dev/null 2>&1 &) & exit 0",
            0,
            id="all but its place",
        ),
    ],
)
def test_what_a_job_leaves_behind_is_gone_before_its_gpus_are_free(
    stage: Stage, command: str, code: int
) -> None:
    token = mark()
    command = command.replace("MARK", token)
    # The second of two needs the GPUs of the first, and looks whether anything of that is alive.
    look = f"! grep -sz -l '^{token}$' /proc/[0-9]*/cmdline"
    number = stage.submit(
        f"if [ {{{{n}}}} = 1 ]; then {command}\nelse {look}; fi",
        parameters={"n": [1, 2]},
        concurrency=2,
        resources={"gpus": 2},
    )
    first, second, _ = ends(stage.follow(number))
    assert (first.id, first.exit_code) == (f"{number}.1", code)
    assert (second.id, second.state) == (f"{number}.2", State.FINISHED)
    stage.assert_clean(token)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("echo up; sleep MARK", id="obedient"),
        pytest.param("trap '' TERM; echo up; while :; do sleep MARK; done", id="deaf to SIGTERM"),
        pytest.param("(setsid sleep MARK &); echo up; wait; sleep MARK", id="another session"),
        pytest.param("(env -i setsid sleep MARK &); echo up; sleep MARK", id="wiped environment"),
        pytest.param(
            "cd /; echo up; env -i /usr/bin/setsid sleep MARK > /dev/null 2>&1",
            id="all but its parent",
        ),
        pytest.param("sleep MARK & echo up; kill -STOP $$; sleep MARK", id="its shell stopped"),
        pytest.param("echo up; sh -c 'kill -STOP $$'; sleep MARK", id="stopped"),
        pytest.param(
            "i=0; while [ $i -lt 200 ]; do sleep MARK & i=$((i+1)); done; echo up; wait", id="200"
        ),
        pytest.param(
            "echo up; exec > /dev/null 2>&1 < /dev/null; sleep MARK", id="its outputs closed"
        ),
        pytest.param('rm -rf "$PWD"; echo up; sleep MARK', id="its directory removed"),
    ],
)
@pytest.mark.parametrize("force", [False, True], ids=["kill", "kill -f"])
def test_a_kill_ends_it(stage: Stage, command: str, force: bool) -> None:
    token = mark()
    number = stage.submit(command.replace("MARK", token), resources={"gpus": 2})
    stage.wait_for_line(number, "up")
    assert stage.kill(number, force=force).killed == [number]
    stage.assert_clean(token)
    member = stage.member(number)
    assert (member.state, member.reason) == (State.KILLED, Reason.KILLED)


COMET = """\
import os
print("up", flush=True)
for _ in range(5_000):
    if os.fork(): os._exit(0)  # MARK
os.write(3, b"escaped")
"""


@pytest.mark.parametrize(
    ("stage", "force"), [("cgroup", False), ("cgroup", True), ("session", True)], indirect=["stage"]
)
def test_processes_that_each_live_for_less_than_a_look_are_killed_too(
    stage: Stage, force: bool
) -> None:
    """Without a control group only while the job's shell lives, and in its process group."""
    token = mark()
    os.mkfifo(stage.root / token)
    held = os.open(stage.root / token, os.O_RDONLY | os.O_NONBLOCK)
    try:
        number = stage.submit(
            f"exec 3> {stage.root / token}; python3 -c '{COMET.replace('MARK', token)}'; sleep {token}",
        )
        stage.wait_for_line(number, "up")
        stage.kill(number, force=force)
        os.set_blocking(held, True)
        assert os.read(held, 100) == b"", "an end of file comes when no process is left"
    finally:
        os.close(held)
    stage.assert_clean(token)


@pytest.mark.parametrize(
    ("commands", "code", "lines"),
    [
        pytest.param(["printf abc"], 0, ["abc"], id="no newline"),
        pytest.param([r"printf 'a\rb\rc\r'"], 0, ["a\rb\rc\r"], id="carriage returns alone"),
        pytest.param(["echo a; exit 137"], 137, ["a"], id="exit 137"),
        pytest.param(["exec >&- 2>&-; exit 3"], 3, [], id="closed outputs"),
        pytest.param(["echo 'open"], 2, None, id="a syntax error"),
        pytest.param(["echo a", "exit 3", "echo b"], 3, ["a"], id="exit in the middle of a list"),
        pytest.param(["false", "echo b"], 1, [], id="a failure in the middle of a list"),
        pytest.param(
            ["cd /; x=1; set -- a b", 'echo "$#$x"; [ "$PWD" != / ]'], 0, ["0"], id="apart"
        ),
        pytest.param(["cat; echo $?"], 0, ["0"], id="reads its input"),
        pytest.param(
            ["printf '%s\n' \"it's\" 'ü ☃' '{\"a\": 1}' \\\\ '$HOME' 'x\ny'"],
            0,
            ["it's", "ü ☃", '{"a": 1}', "\\", "$HOME", "x", "y"],
            id="quotes, line ends and other scripts",
        ),
        pytest.param([r"printf '\377\376\n'"], 0, ["\ufffd\ufffd"], id="not UTF-8"),
        pytest.param(
            ['python3 -c \'print("x" * 1_000_000); print("end")\''],
            0,
            ["x" * 1_000_000, "end"],
            id="a long line",
        ),
        pytest.param([": " + "x" * 65_536 + "; echo end"], 0, ["end"], id="a long command"),
        pytest.param(["-n"], 127, None, id="a command that looks like a flag"),
        pytest.param(["# nothing"], 0, [], id="a comment"),
        pytest.param(["exec /nowhere/program"], 127, None, id="a program that is not there"),
        pytest.param(["echo a; exec true"], 0, ["a"], id="its shell replaced"),
        pytest.param(["trap 'echo bye' EXIT; exit 4"], 4, ["bye"], id="a trap"),
        pytest.param(["set -eu; echo a; false; echo b"], 1, ["a"], id="set -e"),
        pytest.param(["kill -TERM $PPID; echo a"], 0, ["a"], id="a signal to its shell"),
        pytest.param(["kill -KILL $PPID; exec sleep 5"], 137, None, id="its shell killed"),
    ],
)
def test_it_ends_as_the_shell_says(
    stage: Stage, commands: list[str], code: int, lines: list[str] | None
) -> None:
    number = stage.submit(*commands)
    entries = stage.follow(number)
    (end,) = ends(entries)
    assert end.exit_code == code
    assert end.reason == (Reason.ERROR if code else Reason.COMPLETED)
    if lines is not None:
        assert [entry.text for entry in entries if isinstance(entry, LineEntry)] == lines
    stage.assert_clean(f"RISEML_JOB={number}.")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param('rm -rf "$PWD"', id="removed"),
        pytest.param('mv "$PWD" "$OUTPUT_DIR/away"; ln -s / "$PWD"', id="a link to the root"),
        pytest.param("mkdir a; : > a/b; chmod 000 a .", id="closed"),
        pytest.param(
            "mkdir a; : > a/b; chattr +i a/b 2> /dev/null; chattr -i a/b; :", id="immutable"
        ),
        pytest.param(
            "python3 -c \"\nimport os\nfor _ in range(3000): os.mkdir('d' * 200); os.chdir('d' * 200)\"",
            id="very deep",
        ),
        pytest.param(
            "for i in $(seq 2000); do : > $i; done; mkfifo p; ln -s /etc e", id="very full"
        ),
        pytest.param(r"touch \"$(printf '\377\n\001')\" -- '-rf' ' '", id="odd names"),
    ],
)
def test_whatever_it_does_to_its_directory_that_goes(stage: Stage, command: str) -> None:
    number = stage.submit(command)
    assert stage.wait_for_end(number) is State.FINISHED, stage.lines(number)
    stage.assert_clean(f"RISEML_JOB={number}.")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param('echo a; : > "$LOG"; echo b', id="cut short"),
        pytest.param('echo a; rm "$LOG"; echo b', id="removed"),
        pytest.param('echo a; rm "$LOG"; mkdir "$LOG"', id="a directory"),
        pytest.param('echo a; rm "$LOG"; mkfifo "$LOG"', id="a FIFO"),
        pytest.param('echo a; rm -r "$(dirname "$LOG")"; echo b', id="all of it"),
        pytest.param('echo a; rm "$(readlink /proc/$$/fd/1)"; echo b', id="its pipe removed"),
        pytest.param(
            'echo a; p=$(readlink /proc/$$/fd/1); rm "$p"; mkdir "$p"', id="its pipe a directory"
        ),
    ],
)
def test_whatever_it_does_to_its_log_it_ends_and_the_next_has_one(
    stage: Stage, command: str
) -> None:
    log = f"{stage.state}/logs/$EXPERIMENT_ID/train.1.log"
    number = stage.submit(f"LOG={log}; {command}")
    assert stage.wait_for_end(number) is State.FINISHED
    assert stage.lines(stage.submit("echo next")) == ["next"]
    stage.assert_clean(f"RISEML_JOB={number}.")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param('rm -r "$OUTPUT_DIR"; : > "$OUTPUT_DIR"', id="a file"),
        pytest.param('rm -r "$OUTPUT_DIR"; ln -s /nowhere/at/all "$OUTPUT_DIR"', id="a dead link"),
        pytest.param('rm -r "$OUTPUT_DIR"', id="nothing"),
        pytest.param('chmod 000 "$OUTPUT_DIR"', id="closed"),
    ],
)
def test_whatever_it_makes_of_its_output_it_ends_as_it_should(stage: Stage, command: str) -> None:
    """The retry meets what the first attempt has made."""
    number = stage.submit(f"{command}; exit 6", retries=1)
    entries = stage.follow(number)
    (end,) = ends(entries)
    assert end.state is State.FAILED
    assert end.reason in (Reason.ERROR, Reason.START_FAILED)
    assert end.reason == Reason.ERROR or str(stage.output) in (end.message or "")
    stage.assert_clean(f"RISEML_JOB={number}.")


def test_its_exit_file_is_not_believed_where_it_writes_into_it_itself(stage: Stage) -> None:
    found = 'file=$(tr "\\0" "\\n" < /proc/$$/cmdline | grep -m1 "^/.*/run/[0-9]*$")'
    for text in ("0", "x", "", "999999", "run\\n0", "abc", "-1 ", "999", "   "):
        for how in (">", "1<>"):
            number = stage.submit(f"{found}; printf '{text}\\n' {how} $file; kill -9 $$; sleep 9")
            (end,) = ends(stage.follow(number))
            assert end.state is State.FAILED or (text, how) == ("0", "1<>")
            assert stage.alive()
    assert stage.wait_for_end(stage.submit(f"{found}; rm $file")) is State.FAILED
    stage.assert_clean("RISEML_JOB=")


def test_every_variable_of_riseml_yml_arrives_whatever_it_is_called(stage: Stage) -> None:
    names = ["code", "command", "go", "leave", "exit_file", "x", "PS4", "OLDPWD", "OPTIND", "_"]
    env = {name: f"mine-{name}" for name in names if name != "OPTIND"}
    number = stage.submit("env", env=env)
    found = dict(line.partition("=")[::2] for line in stage.lines(number))
    kept = set(env) - {"_", "OLDPWD"}  # those two are the shell's own
    assert {name: found.get(name) for name in kept} == {name: env[name] for name in kept}


@pytest.mark.parametrize("stage", ["cgroup"], indirect=True)
def test_groups_that_it_makes_below_its_own_go_with_it(stage: Stage) -> None:
    token = mark()
    command = (
        "base=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/self/mounts)\n"
        "group=$base$(sed -n 's/^0:://p' /proc/self/cgroup)\n"
        "mkdir -p $group/a/b && echo $$ > $group/a/b/cgroup.procs && echo up\n"
        f"sleep {token} & sleep {token}"
    )
    number = stage.submit(command, resources={"gpus": 1})
    stage.wait_for_line(number, "up")
    stage.kill(number)
    stage.assert_clean(token)


@pytest.mark.parametrize("stage", ["cgroup"], indirect=True)
def test_two_hundred_megabytes_at_once_are_all_in_the_log(stage: Stage) -> None:
    number = stage.submit(
        "(yes 0123456789abcdef0123456789abcde || true) | head -c 200000000", resources={"gpus": 2}
    )
    stage.wait_for_end(stage.submit("true", resources={"gpus": 2}))  # waits for the first
    assert stage.detail(number).state is State.FINISHED
    (log,) = (stage.state / "logs" / number).glob("*.log")
    assert log.stat().st_size == 200_000_000
    log.unlink()
    stage.assert_clean(f"RISEML_JOB={number}.")
