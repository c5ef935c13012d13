"""Containers of several users: the engine runs as root, and gives nobody more than they have."""

import json
from collections.abc import Callable, Iterator

import pytest
from box import Box
from engine import BUSYBOX, PYTHON, need_engine, need_python, remove_all
from people import User
from test_shared import host, log, train

from riseml_proto.states import State

pytestmark = pytest.mark.slow

Users = Callable[..., User]


@pytest.fixture
def engine_box(make_shared_box: Callable[..., Box]) -> Iterator[Box]:
    need_engine()
    made = make_shared_box(gpus=4)
    made.start()
    yield made
    made.stop()
    remove_all(made)


def yml(run: str, more: str = "") -> str:
    return f"project: boxed\ntrain:\n  image: {BUSYBOX}\n  run: {json.dumps(run)}\n{more}"


def test_a_container_has_its_users_rights_and_no_more(engine_box: Box, users: Users) -> None:
    paul = users("riseml-lab")
    run = (
        "id -u; id -g; id -G; touch own /output/made && cat riseml.yml | head -n 1;"
        " grep NoNewPrivs /proc/self/status; echo again >> /dev/stdout;"
        " for f in exit leave out; do rm -f /.riseml/$f || mv /.riseml/$f /.riseml/x || true; done 2> /dev/null;"
        " ln -sf /etc/passwd /.riseml/new 2> /dev/null || echo closed"
    )
    number = train(engine_box, paul, yml(run))
    assert engine_box.wait_for_end(number) is State.FINISHED
    assert log(engine_box, paul, number) == [
        str(paul.uid),
        str(paul.gid),
        f"{paul.gid} {paul.groups[0]}",
        "project: boxed",
        "NoNewPrivs:\t1",
        "again",
        "closed",
    ]
    made = (engine_box.output / paul.name / "boxed" / number / "made").stat()
    assert (made.st_uid, made.st_gid) == (paul.uid, paul.gid)


KNOWN = """\
import getpass, grp, os, pwd
me = pwd.getpwuid(os.getuid())
print(getpass.getuser(), me.pw_name, me.pw_gid == os.getgid(), me.pw_dir, os.path.expanduser("~"))
print(*sorted(grp.getgrgid(number).gr_name for number in os.getgroups()))
print(pwd.getpwnam("root").pw_dir, pwd.getpwnam("daemon").pw_uid)
"""


@pytest.mark.parametrize("image", [BUSYBOX, PYTHON])
def test_a_containers_user_has_an_entry_that_the_image_lacks(
    engine_box: Box, users: Users, image: str
) -> None:
    need_python()
    paul = users("riseml-lab")
    python = "unset USER LOGNAME; python3 known" if image == PYTHON else "true"
    run = f"whoami; id -gn; {python}; touch /etc/passwd || echo closed"
    for _ in range(2):  # what is known of the image serves the second
        text = f"project: a\ntrain:\n  image: {image}\n  run: {json.dumps(run)}\n"
        number = train(engine_box, paul, text, known=KNOWN)
        assert engine_box.wait_for_end(number) is State.FINISHED
        *lines, denied, closed = log(engine_box, paul, number)
        known = [
            f"{paul.name} {paul.name} True /code /code",
            " ".join(sorted([paul.name, "riseml-lab"])),
            "/root 1",
        ]
        assert lines == [paul.name, paul.name, *(known if image == PYTHON else [])]
        assert "touch" in denied
        assert closed == "closed"


@pytest.mark.parametrize("level", ["project", "set"])
def test_a_link_in_place_of_an_output_directory_is_not_mounted(
    engine_box: Box, users: Users, level: str
) -> None:
    paul, eve = users(), users()
    hide = "project: a\ntrain: {run: 'echo hidden > $OUTPUT_DIR/result; chmod 777 $OUTPUT_DIR/result'}\n"
    first = train(engine_box, paul, hide)
    assert engine_box.wait_for_end(first) is State.FINISHED
    theirs, own = engine_box.output / paul.name / "a", engine_box.output / eve.name
    for directory in (theirs, theirs / first):
        directory.chmod(0o777)  # nothing but the user's directory above protects it
    assert engine_box.wait_for_end(train(engine_box, eve, yml("true"))) is State.FINISHED
    place = own / "boxed" if level == "project" else own / "boxed" / "3"
    target = theirs if level == "project" else theirs / first
    swap = f"rm -rf {place}; ln -sT {target} {place}"
    assert eve.run("/bin/sh", "-c", swap).returncode == 0
    number = train(engine_box, eve, yml("cat /output/* /output/*/*; touch /output/x"))
    assert engine_box.wait_for_end(number) is State.FAILED
    assert log(engine_box, eve, number) == []
    shown = json.loads(eve.riseml("status", number, "--json", host=host(engine_box)).stdout)
    assert shown["experiments"][0]["reason"] == "START_FAILED"
    assert {path.name for path in theirs.rglob("*")} == {
        first,
        "result",
        "riseml-configuration.yml",
    }


def test_root_in_a_build_leaves_nothing_that_a_user_can_run(engine_box: Box, users: Users) -> None:
    eve = users()
    plant = "for f in /.riseml/root /.riseml/log; do cat /bin/busybox > $f; chmod 4755 $f; done; echo; echo planted"
    text = (
        f"project: b\ntrain:\n  image:\n    name: {BUSYBOX}\n    install:\n"
        f"      - {json.dumps(plant)}\n      - sleep 1000\n  run: id -u\n"
    )
    number = train(engine_box, eve, text)
    engine_box.wait(number, lambda entry: getattr(entry, "text", "") == "planted")
    planted = [
        engine_box.state / "containers" / f"{number}.build.1" / "root",
        engine_box.state / "containers" / f"{number}.build.1" / "log",
    ]
    for path in planted:
        assert path.stat().st_mode & 0o4111
        with pytest.raises(PermissionError):
            eve.run(str(path), "id", "-u")
    assert eve.riseml("kill", "-f", number, host=host(engine_box)).returncode == 0
