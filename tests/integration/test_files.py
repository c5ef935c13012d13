"""`riseml ls`, `cp` and `rm`: what jobs have written, and data, with nobody's rights but the caller's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from box import Box
from people import User
from test_shared import host, train

from riseml.transport.http import Client
from riseml_proto.file_messages import Part, PartRequest
from riseml_proto.states import State

WRITE = (
    "project: a\ntrain:\n  run: |-\n"
    "    mkdir -p $OUTPUT_DIR/deep/er; echo hello > $OUTPUT_DIR/deep/er/file; ln -s deep $OUTPUT_DIR/link\n"
    "    echo '#!/bin/sh' > $OUTPUT_DIR/run; chmod 755 $OUTPUT_DIR/run; mkfifo $OUTPUT_DIR/fifo\n"
    "    printf x > \"$OUTPUT_DIR/$(printf 'a\\303\\251\\377b%%c')\"; ln -s /etc $OUTPUT_DIR/out\n"
)


@pytest.fixture
def written(box: Box) -> str:
    """An experiment that has written files of every kind."""
    number = box.train(WRITE)
    assert box.wait_for_end(number) is State.FINISHED
    return number


def test_what_a_job_wrote_is_listed(box: Box, written: str) -> None:
    assert box.run("ls", f"output://{written}/").stdout.splitlines() == [
        "aé%FFb%25c",
        "deep/",
        "fifo",
        "link -> deep",
        "out -> /etc",
        "riseml-configuration.yml",
        "run",
    ]
    assert box.run("ls", f"output://{written}/deep/er/file").stdout == "file\n"
    assert box.run("ls", "-r", f"output://{written}/deep").stdout == "er/\ner/file\n"
    *size, when, name = box.run("ls", "-l", f"output://{written}/deep/er").stdout.split()
    assert (size, name, when[-1]) == (["6", "B"], "file", "Z")
    (found,) = json.loads(box.run("ls", "--json", f"output://{written}/deep/er").stdout)
    uri = f"output://{written}/deep/er/file"
    assert (found["uri"], found["type"], found["size"]) == (uri, "file", 6)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("output://{}/nothing", "there is no such file or directory"),
        ("output://{}/out/passwd", "a link on the way leads out"),
        ("output://{}/../../x", "no name in a path may be empty, . or .."),
        ("output://99/", "there is no experiment 99"),
        ("s3://bucket", "there is no s3:// here"),
        ("deep", "no place that the daemon knows"),
    ],
)
def test_what_cannot_be_listed_is_one_clear_error(
    box: Box, written: str, uri: str, says: str
) -> None:
    done = box.run("ls", uri.format(written), check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr


def test_a_directory_is_copied_here_with_all_that_can_be_copied(box: Box, written: str) -> None:
    to = box.root / "here"
    done = box.run("cp", "-r", f"output://{written}/", str(to), check=False)
    assert (done.returncode, done.stderr) == (
        2,
        f"riseml: output://{written}/fifo is no regular file and was left out\n",
    )
    assert (to / "deep" / "er" / "file").read_text() == "hello\n"
    assert os.readlink(to / "link") == "deep"
    assert (to / "run").stat().st_mode & 0o111
    assert (Path(os.fsdecode(os.fsencode(to) + b"/a\xc3\xa9\xffb%c"))).read_text() == "x"
    (there,) = box.output.glob(f"*/a/{written}/run")
    assert int((to / "run").stat().st_mtime) == int(there.stat().st_mtime)
    done = box.run("cp", f"output://{written}/deep", str(to), check=False)
    assert "is a directory; copy it with -r" in done.stderr


def test_a_directory_comes_back_as_it_went(box: Box) -> None:
    source = box.root / "images"
    (source / "sub").mkdir(parents=True)
    for n in range(300):
        (source / "sub" / str(n)).write_bytes(os.urandom(n * 37))
    (source / "empty").touch()
    (source / "link").symlink_to("sub/7")
    box.run("cp", "-r", str(source), "data://")
    assert box.run("ls", "data://").stdout == "images/\n"
    box.run("cp", "-r", "data://images", str(box.root / "back"))
    subprocess.run(["diff", "-r", "--no-dereference", source, box.root / "back"], check=True)
    box.run("rm", "data://images/empty")
    assert "empty" not in box.run("ls", "data://images").stdout
    done = box.run("rm", "data://images", check=False)
    assert (done.returncode, "with -r" in done.stderr) == (2, True)
    box.run("rm", "-r", "data://images")
    assert box.run("ls", "data://").stdout == ""


def test_a_download_that_was_cut_off_goes_on_where_it_was(box: Box) -> None:
    box.data.mkdir(exist_ok=True)
    content = os.urandom(40 << 20)
    (box.data / "large").write_bytes(content)
    to = box.root / "large"
    command = [sys.executable, "-m", "riseml", "cp", "data://large", str(to)]
    with subprocess.Popen(command, env=box.env, cwd=box.root) as copy:
        while not (parts := list(box.root.glob(".riseml-part-*"))) and copy.poll() is None:
            pass
        copy.kill()
    if parts and not to.exists():
        parts[0].write_bytes(content[: 10 << 20])  # so much of it is known to be there
        inode = parts[0].stat().st_ino
        box.run("cp", "data://large", str(to))
        assert to.stat().st_ino == inode
    assert to.read_bytes() == content
    assert list(box.root.glob(".riseml-part-*")) == []


def test_an_upload_goes_on_after_a_crash_of_the_daemon(box: Box) -> None:
    content = os.urandom(64 << 20)
    source = box.root / "large"
    source.write_bytes(content)
    found = source.stat()
    version = f"{found.st_mtime_ns:x}.{found.st_ino:x}.{found.st_size:x}"
    command = [sys.executable, "-m", "riseml", "cp", str(source), "data://"]
    with subprocess.Popen(
        command, env=box.env, cwd=box.root, stderr=subprocess.PIPE, text=True
    ) as copy:
        while not any(p.stat().st_size for p in _parts(box)) and copy.poll() is None:
            pass
        box.kill_daemon()
        _, told = copy.communicate()
    box.start()
    if copy.returncode:
        assert told.count("\n") == 1
        with Client(str(box.socket)) as client:
            asked = PartRequest(uri="data://large", version=version)
            assert client.post("/v1/files/part", asked, Part).size > 0
    box.run("cp", str(source), "data://")
    assert (box.data / "large").read_bytes() == content
    assert _parts(box) == []


def _parts(box: Box) -> list[Path]:
    return list(box.data.glob(".riseml-part-*"))


@pytest.mark.parametrize("name", ["part-synced", "part-published"])
def test_a_crash_leaves_the_old_file_or_the_new_one(
    make_box: Callable[..., Box], name: str
) -> None:
    box = make_box(gpus=1)
    box.data.mkdir()
    (box.data / "file").write_text("old")
    box.start(crash_at=name)
    source = box.root / "file"
    source.write_text("new")
    done = box.run("cp", str(source), "data://", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    box.wait_for_crash()
    assert (box.data / "file").read_text() == ("old" if name == "part-synced" else "new")
    box.start()
    box.run("cp", str(source), "data://")
    assert (box.data / "file").read_text() == "new"


def test_both_or_no_sides_on_the_server_are_refused(box: Box) -> None:
    for argv, says in (
        (["data://a", "data://b"], "both are the daemon's"),
        (["a", "b"], "neither is the daemon's"),
    ):
        done = box.run("cp", *argv, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr


def test_nobody_reads_writes_or_removes_what_is_anothers(
    shared: Box, users: Callable[..., User]
) -> None:
    paul, eve = users(), users()
    number = train(shared, paul, WRITE)
    assert shared.wait_for_end(number) is State.FINISHED
    (eve.home / "own").write_text("x")
    for argv in (
        ["ls", f"output://{number}/"],
        ["cp", f"output://{number}/run", str(eve.home)],
        ["cp", str(eve.home / "own"), f"output://{number}/"],
        ["rm", "-r", f"output://{number}/deep"],
    ):
        done = eve.riseml(*argv, host=host(shared))
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{number} is {paul.name}'s" in done.stderr
    assert paul.riseml("ls", f"output://{number}/deep", host=host(shared)).stdout == "er/\n"
    # Data is root's here: whoever may not write there by the kernel's word may not through riseml.
    done = eve.riseml("cp", str(eve.home / "own"), "data://", host=host(shared))
    assert (done.returncode, "you may not" in done.stderr) == (2, True)
    steal = f"ln -s {shared.output}/{paul.name}/a/{number} $OUTPUT_DIR/theirs; ln -s /root $OUTPUT_DIR/r"
    mine = train(shared, eve, f"project: b\ntrain: {{run: {json.dumps(steal)}}}\n")
    assert shared.wait_for_end(mine) is State.FINISHED
    for place in ("theirs/run", "r/x", "theirs"):
        done = eve.riseml(
            "cp", "-r", f"output://{mine}/{place}/", str(eve.home / "got"), host=host(shared)
        )
        assert done.returncode == 2
    assert not (eve.home / "got").exists()
