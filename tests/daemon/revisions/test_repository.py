"""A revision is a git commit: what it may hold, which id it gets, and what real git says of it."""

import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from rised.revisions import Revisions
from riseml_proto.errors import InvalidInput, StorageFull, SyncError
from riseml_proto.messages import File, Manifest, Revision
from riseml_proto.paths import quote

FILE, PROGRAM, LINK = 0o100644, 0o100755, 0o120000
Files = dict[bytes, tuple[int, bytes]]
SOME: Files = {b"riseml.yml": (FILE, b"project: p\n"), b"src/train.py": (PROGRAM, b"print(1)\n")}
OTHER: Files = {b"riseml.yml": (FILE, b"project: q\n")}


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def manifest(files: Files) -> Manifest:
    return Manifest(
        project="p",
        files=[File(quote(p), m, len(c), blob_id(c)) for p, (m, c) in files.items()],
    )


def opened(state: Path, *, max_files: int = 1000, max_bytes: int = 1 << 30) -> Revisions:
    return Revisions(str(state), max_files=max_files, max_bytes=max_bytes)


async def send(revisions: Revisions, files: Files, *, user: str = "paul") -> None:
    async def body() -> AsyncIterator[bytes]:
        for _, content in files.values():
            yield b"%s %d\n" % (blob_id(content).encode(), len(content)) + content

    await revisions.receive(user, "p", body())


async def sync(revisions: Revisions, files: Files, *, user: str = "paul") -> str:
    await send(revisions, files, user=user)
    answer = await revisions.commit(user, manifest(files))
    assert answer.revision is not None
    return answer.revision


def git(state: Path, *args: str) -> str:
    repository = state / "repositories" / "paul" / "p.git"
    command = ["git", "-c", "safe.directory=*", "-C", str(repository), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def entry(path: str = "a", mode: int = FILE, size: int = 0, blob: str = "0" * 40) -> File:
    return File(path, mode, size, blob)


def commit_entries(state: Path, *files: File) -> Revision:
    return trio.run(
        opened(state, max_files=3).commit, "paul", Manifest(project="p", files=[*files])
    )


def test_the_first_commit_names_every_missing_blob_once_and_in_order(tmp_path: Path) -> None:
    one, two = "1" * 40, "2" * 40
    answer = commit_entries(
        tmp_path, entry("b", blob=two), entry("a", blob=one), entry("c", blob=two)
    )
    assert answer == Revision(revision=None, missing=[two, one])


def test_real_git_shows_clones_and_trusts_a_revision(tmp_path: Path) -> None:
    files = SOME | {
        b"-rf": (FILE, b""),
        b"a\nb": (FILE, b"newline"),
        b"\xff": (FILE, b"no utf-8"),
        b"deep/" * 200 + b"x": (FILE, b"deep"),
        b"link": (LINK, b"/etc/passwd"),
    }
    revision = trio.run(sync, opened(tmp_path), files)
    assert "Sync of 7 files" in git(tmp_path, "show", "-s", "--format=%an %s", revision)
    assert git(tmp_path, "fsck", "--strict", "--full") == ""
    assert git(tmp_path, "show", f"{revision}:src/train.py") == "print(1)\n"
    git(tmp_path, "clone", "-q", ".", str(tmp_path / "clone"))
    assert (tmp_path / "clone" / "src" / "train.py").stat().st_mode & 0o100
    assert (tmp_path / "clone" / "a\nb").read_bytes() == b"newline"
    assert os.readlink(tmp_path / "clone" / "link") == "/etc/passwd"


def test_unchanged_files_give_the_revision_that_they_had(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        first, second = await sync(revisions, SOME), await sync(revisions, OTHER)
        assert first != second
        assert await sync(revisions, SOME) == first
        assert await sync(opened(tmp_path), dict(reversed(SOME.items()))) == first
        assert git(tmp_path, "log", "--format=%H", "main").split() == [second, first]

    trio.run(main)


def test_revisions_and_refs_that_git_has_packed_are_found(tmp_path: Path) -> None:
    async def main() -> None:
        first = await sync(opened(tmp_path), SOME)
        git(tmp_path, "gc", "-q", "--prune=now")
        assert not list((tmp_path / "repositories/paul/p.git/refs/trees").iterdir())
        revisions = opened(tmp_path)
        assert await revisions.exists("paul", "p", first)
        assert await sync(revisions, SOME) == first
        grown = SOME | {b"new": (FILE, b"new")}
        assert (await revisions.commit("paul", manifest(grown))).missing == [blob_id(b"new")]
        second = await sync(revisions, grown)
        assert git(tmp_path, "log", "--format=%H", "main").split() == [second, first]
        assert git(tmp_path, "fsck", "--strict") == ""

    trio.run(main)


def test_syncs_at_once_make_one_history(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(sync, revisions, {b"f": (FILE, b"%d" % (number // 2))})
        assert len(git(tmp_path, "log", "--format=%H", "main").split()) == 4

    trio.run(main)


def test_users_have_repositories_of_their_own_that_others_cannot_enter(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        assert not await revisions.exists("anna", "p", revision)
        assert (await revisions.commit("anna", manifest(SOME))).missing
        for path in (
            "repositories",
            "repositories/paul",
            "repositories/paul/p.git",
            "trees/paul/p",
        ):
            assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700

    trio.run(main)


def test_only_revisions_of_the_project_exist(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        assert await revisions.exists("paul", "p", revision)
        assert not await revisions.exists("paul", "q", revision)
        tree = git(tmp_path, "rev-parse", f"{revision}^{{tree}}").strip()
        for other in (tree, blob_id(b"project: p\n"), "0" * 40, revision[:8], "HEAD", "../x", ""):
            assert not await revisions.exists("paul", "p", other)

    trio.run(main)


@pytest.mark.parametrize(
    "files",
    [
        [entry("x", LINK), entry("x/passwd")],
        [entry("x/passwd"), entry("x", LINK)],
        [entry("a/b"), entry("a/b/c/d")],
        [entry("a"), entry("a")],
        [entry("../a")],
        [entry("/a")],
        [entry("")],
        [entry("a//b")],
        [entry("a%00b")],
        [entry("x/.Git/config")],
        [entry("a", 0o160000)],
        [entry("a", 0o040000)],
        [entry("a", 0o104755)],
        [entry("a", blob="A" * 40)],
        [entry("a", blob="0" * 39)],
        [entry("a", blob="../" + "0" * 37)],
        [entry("a", size=-1)],
        [entry("n" * 256)],
        [entry("d/" * 1600 + "a")],
    ],
)
def test_what_no_revision_can_hold_is_refused(tmp_path: Path, files: list[File]) -> None:
    with pytest.raises(SyncError):
        commit_entries(tmp_path, *files)


def test_a_project_over_the_limits_is_refused_with_the_numbers_and_the_way_out(
    tmp_path: Path,
) -> None:
    with pytest.raises(SyncError, match=r"4 files, over the 3 allowed.*\.risemlignore"):
        commit_entries(tmp_path, *(entry(str(n)) for n in range(4)))
    with pytest.raises(SyncError, match=r"directories.*\.risemlignore"):
        commit_entries(tmp_path, entry("a/b/c/d/e"))
    with pytest.raises(SyncError, match=r"2,147,483,648 bytes, over the 1,073,741,824 allowed"):
        commit_entries(tmp_path, entry(size=1 << 31))


@pytest.mark.parametrize("target", [b"", b"a\0b", b"x" * 4096])
def test_a_link_that_cannot_be_made_is_refused(tmp_path: Path, target: bytes) -> None:
    with pytest.raises(SyncError, match="symbolic link"):
        trio.run(sync, opened(tmp_path), {b"link": (LINK, target)})


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".new-p.git", "a/b", "a\0b", "a\nb", "<", "n" * 201]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        trio.run(opened(tmp_path).commit, name, manifest(SOME))
    with pytest.raises(InvalidInput):
        trio.run(opened(tmp_path).commit, "paul", Manifest(project=name, files=[]))
    assert list(tmp_path.iterdir()) == []


def test_a_locked_ref_is_an_error_that_names_the_lock(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        await sync(revisions, SOME)
        lock = tmp_path / "repositories/paul/p.git/refs/heads/main.lock"
        lock.touch()
        with pytest.raises(SyncError, match=r"main\.lock"):
            await sync(revisions, OTHER)
        assert await sync(opened(tmp_path), OTHER)  # a new process knows that its owner is gone

    trio.run(main)


DYING = """
import sys, trio
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_repository as t
trio.run(t.sync, t.opened(Path(sys.argv[2])), t.SOME)
"""


@pytest.mark.parametrize(
    "point",
    [
        "objects-before-rename",
        "objects-after-rename",
        "objects-before-rename:2",
        "objects-after-rename:2",
        "revision-objects-written",
        "revision-tree-ref-written",
        "revision-main-written",
    ],
)
def test_a_daemon_killed_at_any_step_of_a_sync_leaves_a_sound_repository(
    tmp_path: Path, point: str
) -> None:
    died = subprocess.run(
        [sys.executable, "-c", DYING, str(Path(__file__).parent), str(tmp_path)],
        env=os.environ | {"RISED_CRASH_AT": point},
    )
    assert died.returncode == -signal.SIGKILL
    revision = trio.run(sync, opened(tmp_path), SOME)
    assert git(tmp_path, "log", "--format=%H", "main").split() == [revision]
    assert git(tmp_path, "fsck", "--strict", "--no-dangling") == ""
    objects = tmp_path / "repositories/paul/p.git/objects"
    assert [p.name for p in objects.iterdir() if len(p.name) != 2] in (
        ["info", "pack"],
        ["pack", "info"],
    )


def test_no_room_on_the_disk_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    from rised.linux.files import disk_may_be_full, write_all

    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(StorageFull, match=r"^/the/place: "), disk_may_be_full("/the/place"):
            write_all(full, b"x")
    finally:
        os.close(full)
