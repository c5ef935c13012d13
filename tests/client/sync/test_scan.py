"""What belongs to a project, and what is refused."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riseml.sync.files import DIRECTORY, EXECUTABLE, LINK, REGULAR, read
from riseml.sync.scan import ProjectLimits, Scan, biggest, leads_outside, scan, special_text
from riseml_proto.errors import ProjectTooLarge, SyncError


def put(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def look(root: Path, limits: ProjectLimits | None = None) -> Scan:
    return scan(os.fsencode(root), limits or ProjectLimits())


def paths(root: Path) -> list[bytes]:
    """The project's files, without empty directories."""
    return [source.path for source in look(root).files if source.mode != DIRECTORY]


def test_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b/z", "b/a/x", "a.txt", "a/x", "b.txt"):
        put(tmp_path, name)
    assert paths(tmp_path) == [b"a.txt", b"a/x", b"b.txt", b"b/a/x", b"b/z"]


def test_modes_sizes_and_empty_files_survive(tmp_path: Path) -> None:
    put(tmp_path, "empty")
    put(tmp_path, "run.sh", "echo").chmod(0o755)
    (tmp_path / "link").symlink_to("no/where")
    modes = {source.path: (source.mode, source.size) for source in look(tmp_path).files}
    assert modes == {b"empty": (REGULAR, 0), b"run.sh": (EXECUTABLE, 4), b"link": (LINK, 8)}


def test_names_of_any_bytes_survive(tmp_path: Path) -> None:
    names = [
        b"caf\xc3\xa9",
        b"caf\xe9",
        b"line\nbreak",
        b"quote'\"",
        b" blank ",
        b"100%",
        b"-f",
        b"\x01",
    ]
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
            pass
    assert paths(tmp_path) == sorted(names)


def test_git_directories_and_files_are_left_out_at_every_depth(tmp_path: Path) -> None:
    for name in (
        ".git/config",
        "module/.git",
        "module/code.py",
        "module/sub/.git/HEAD",
        "module/sub/x",
    ):
        put(tmp_path, name)
    assert paths(tmp_path) == [b"module/code.py", b"module/sub/x"]


def test_an_empty_directory_belongs_to_a_project(tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    put(tmp_path, "full/file")
    put(tmp_path, "ignored/x")
    put(tmp_path, ".gitignore", "ignored\n*.pt\n")
    put(tmp_path, "checkpoints/old.pt")
    scanned = look(tmp_path)
    found = [(os.fsdecode(source.path), source.mode == DIRECTORY) for source in scanned.files]
    assert found == [
        (".gitignore", False),
        ("checkpoints", True),
        ("empty/inner", True),
        ("full/file", False),
    ]
    assert scanned.number == 2


def test_what_lies_in_an_ignored_directory_is_never_looked_at(tmp_path: Path) -> None:
    put(tmp_path, ".gitignore", "node_modules\n!node_modules/kept\n")
    put(tmp_path, "node_modules/kept")
    (tmp_path / "node_modules" / "away").symlink_to("../../outside")
    assert [path for path in paths(tmp_path) if b"/" in path] == []


def test_risemlignore_has_the_last_word(tmp_path: Path) -> None:
    put(tmp_path, ".gitignore", "/data\n*.bin\n")
    put(tmp_path, ".risemlignore", "!/data\n*.md\n")
    for name in ("data/train.csv", "data/x.bin", "README.md"):
        put(tmp_path, name)
    assert paths(tmp_path) == [b".gitignore", b".risemlignore", b"data/train.csv"]


def test_a_link_is_kept_as_a_link_also_to_a_directory(tmp_path: Path) -> None:
    put(tmp_path, "real/file")
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "absolute").symlink_to("/etc")
    targets = {source.path: source.target for source in look(tmp_path).files}
    assert targets == {b"absolute": b"/etc", b"alias": b"real", b"real/file": None}


def test_a_link_to_the_outside_names_itself_its_target_and_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big").symlink_to("../../big")
    with pytest.raises(
        SyncError, match=r"data/big .* \.\./\.\./big, .* absolute, .* \.risemlignore"
    ):
        look(tmp_path)
    put(tmp_path, ".risemlignore", "data/big")
    assert paths(tmp_path) == [b".risemlignore"]


@pytest.mark.parametrize(
    ("path", "target", "outside"),
    [
        (b"a", b"../a", True),
        (b"a/b", b"../c", False),
        (b"a/b", b"../../project/c", True),
        (b"a/b", b"x/../../../project/c", True),
        (b"a", b"..x", False),
        (b"a", b"..", True),
        (b"a", b"/anywhere/../else", False),
        (b"a", b".", False),
    ],
)
def test_which_links_lead_outside(path: bytes, target: bytes, outside: bool) -> None:
    assert leads_outside(path, target) is outside


def test_special_files_are_skipped_and_named(tmp_path: Path) -> None:
    put(tmp_path, "code.py")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory() as short:
        listener.bind(f"{short}/socket")
        os.rename(f"{short}/socket", tmp_path / "socket")
    scanned = look(tmp_path)
    assert [source.path for source in scanned.files] == [b"code.py"]
    assert sorted(scanned.special) == [b"pipe", b"socket"]
    assert special_text([b"a", b"b", b"c", b"d"]).endswith(": a, b, c and 1 more")


def test_an_ignore_file_that_is_a_pipe_or_a_link_is_none(tmp_path: Path) -> None:
    put(tmp_path, "code.py")
    put(tmp_path, "patterns", "code.py")
    (tmp_path / ".gitignore").symlink_to("patterns")
    os.mkfifo(tmp_path / ".risemlignore")
    assert paths(tmp_path) == [b".gitignore", b"code.py", b"patterns"]


def test_too_many_files_name_the_limit_and_where_they_are(tmp_path: Path) -> None:
    for number in range(30):
        put(tmp_path, f"data/train/{number % 5}/{number}")
    put(tmp_path, "src/code.py")
    with pytest.raises(
        ProjectTooLarge, match=r"more than 20 files; the biggest parts are data/train \(\d+ files\)"
    ):
        look(tmp_path, ProjectLimits(files=20))
    assert len(look(tmp_path, ProjectLimits(files=31)).files) == 31


def test_too_many_bytes_name_the_large_file(tmp_path: Path) -> None:
    with open(put(tmp_path, "model/weights.bin"), "wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(
        ProjectTooLarge,
        match=r"more than 2\.1 GB; the biggest parts are model/weights\.bin \(3\.2 GB\)",
    ):
        look(tmp_path)


def test_a_tree_of_directories_without_files_is_refused_too(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(ProjectTooLarge, match="more than 5 directories"):
        look(tmp_path, ProjectLimits(files=5))


def test_the_biggest_places_are_as_deep_as_they_can_be() -> None:
    own = {
        b"": 3,
        b"data/a/x": 50,
        b"data/a/y": 45,
        b"data/b": 5,
        b"logs": 20,
        b"src": 1,
        b"tests": 2,
    }
    assert biggest(own) == [(b"data/a", 95), (b"logs", 20), (b"", 3)]


@pytest.fixture
def stranger() -> Iterator[Path]:
    """A directory to use as a user without privileges, whom permissions bind."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        uid = os.geteuid()
        if uid == 0:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(uid)


def test_what_cannot_be_read_is_named(stranger: Path) -> None:
    put(stranger, "data/secret").chmod(0)
    files = look(stranger).files
    with pytest.raises(
        SyncError, match=r"data/secret cannot be read \(Permission denied\); .* \.risemlignore"
    ):
        list(read(os.fsencode(stranger), files[0]))
    (stranger / "data").chmod(0)
    with pytest.raises(SyncError, match=r"^data cannot be read"):
        look(stranger)
    put(stranger, ".risemlignore", "data/")
    assert paths(stranger) == [b".risemlignore"]


names = st.sampled_from(["a", "b", "ab", "a.x", "b.x", "c d"])
trees = st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8)
lines = st.sampled_from(
    ["a", "b/", "/a", "*.x", "a/b", "!a", "!b/", "!*.x", "a/*", "!a/b", "**/b", "a*", "/*", "!/b"]
)
ignores = st.lists(lines, max_size=4).map("\n".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", path], check=True)
    return path / ".git"


@settings(max_examples=60, deadline=None)
@given(trees, ignores, st.dictionaries(st.sampled_from(["a", "b", "a/b"]), ignores, max_size=2))
def test_git_lists_the_same_files(
    repository: Path, tree: list[str], top: str, nested: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path in (*tree, *(f"{directory}/x" for directory in nested)):
            with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                put(root, path)
        for directory, text in {"": top, **nested}.items():
            if (root / directory).is_dir():
                put(root / directory, ".gitignore", text)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--others", "--exclude-standard"],
            cwd=root,
            env=os.environ | {"GIT_DIR": str(repository), "GIT_WORK_TREE": name, "HOME": name},
            stdout=subprocess.PIPE,
            check=True,
        )
        assert paths(root) == sorted(listed.stdout.split(b"\0")[:-1])
