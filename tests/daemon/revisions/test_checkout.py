"""A revision's files come back as they were: bytes, modes, links and names."""

import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rised.linux.copy_tree import copy_tree, remove_tree
from rised.revisions import Revisions
from riseml_proto.errors import NotFound, RisemlError, SyncError
from riseml_proto.messages import File, Manifest
from riseml_proto.paths import quote

FILE, PROGRAM, LINK = 0o100644, 0o100755, 0o120000
Files = dict[bytes, tuple[int, bytes]]
SOME: Files = {b"a": (FILE, b"alpha"), b"d/run": (PROGRAM, b"#!"), b"d/e/l": (LINK, b"../../a")}


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def opened(state: str | Path) -> Revisions:
    return Revisions(str(state), max_files=1000, max_bytes=1 << 30)


async def sync(revisions: Revisions, files: Files) -> str:
    async def body() -> AsyncIterator[bytes]:
        for _, content in files.values():
            yield b"%s %d\n" % (blob_id(content).encode(), len(content)) + content

    await revisions.receive("paul", "p", body())
    listed = [File(quote(p), m, len(c), blob_id(c)) for p, (m, c) in files.items()]
    answer = await revisions.commit("paul", Manifest(project="p", files=listed))
    assert answer.revision is not None
    return answer.revision


def found(tree: str) -> Files:
    """The files of a tree on disk, as a manifest would list them."""
    files: Files = {}
    root = os.fsencode(tree)
    for directory, directories, names in os.walk(root):
        for name in directories + names:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                files[os.path.relpath(path, root)] = (LINK, os.readlink(path))
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    files[os.path.relpath(path, root)] = (mode, file.read())
    return files


names = st.binary(min_size=1, max_size=6).filter(
    lambda n: (
        not {b"/", b"\0"} & {bytes([c]) for c in n}
        and n not in (b".", b"..")
        and n.lower() != b".git"
    )
)
contents = st.one_of(
    st.tuples(st.sampled_from([FILE, PROGRAM]), st.binary(max_size=100)),
    st.tuples(st.just(LINK), st.binary(min_size=1, max_size=50).filter(lambda t: b"\0" not in t)),
)


@st.composite
def trees(draw: st.DrawFn) -> Files:
    """Files of which none lies in another."""
    files: Files = {}
    paths = draw(st.lists(st.lists(names, min_size=1, max_size=4), max_size=12))
    for path in map(b"/".join, paths):
        if not any(
            (path + b"/").startswith(other + b"/") or (other + b"/").startswith(path + b"/")
            for other in files
        ):
            files[path] = draw(contents)
    return files


@settings(deadline=None, max_examples=25)
@given(trees())
def test_what_was_synced_is_what_a_job_gets(files: Files) -> None:
    with tempfile.TemporaryDirectory() as state:

        async def main() -> str:
            revisions = opened(state)
            return await revisions.checkout("paul", "p", await sync(revisions, files))

        tree = trio.run(main)
        assert found(tree) == files
        copy = os.path.join(state, "copy")
        copy_tree(tree, copy, os.getuid(), os.getgid())
        assert found(copy) == files
        remove_tree(copy)
        assert not os.path.exists(copy)


def test_a_big_file_comes_back_whole_loose_or_packed(tmp_path: Path) -> None:
    files: Files = {
        b"noise": (FILE, os.urandom(3_000_000)),
        b"zeros": (PROGRAM, bytes(5_000_000)),
    }

    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, files)
        assert found(await revisions.checkout("paul", "p", revision)) == files
        await revisions.discard("paul", "p", revision)
        repository = str(tmp_path / "repositories/paul/p.git")
        await trio.run_process(
            ["git", "-c", "safe.directory=*", "-C", repository, "gc", "-q", "--prune=now"]
        )
        assert found(await revisions.checkout("paul", "p", revision)) == files

    trio.run(main)


def test_a_tree_is_made_once_however_many_ask_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        inodes = set()

        async def ask() -> None:
            path = await revisions.checkout("paul", "p", revision)
            assert path == str(tmp_path / "trees/paul/p" / revision)
            inodes.add(os.stat(path).st_ino)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert len(inodes) == 1

    trio.run(main)


@pytest.mark.parametrize("revision", ["0" * 40, "main", "..", "", "../../../../etc"])
def test_a_revision_that_does_not_exist_is_not_found(tmp_path: Path, revision: str) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        with pytest.raises(NotFound):
            await revisions.checkout("paul", "p", revision)
        await sync(revisions, SOME)
        with pytest.raises(NotFound):
            await revisions.checkout("paul", "p", revision)

    trio.run(main)


def test_a_discarded_tree_is_gone_and_can_be_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        path = await revisions.checkout("paul", "p", revision)
        await revisions.discard("paul", "p", revision)
        assert os.listdir(tmp_path / "trees/paul/p") == [".boot"]
        await revisions.discard("paul", "p", revision)
        await revisions.discard("paul", "none", revision)
        assert await revisions.checkout("paul", "p", revision) == path
        assert found(path) == SOME

    trio.run(main)


def test_half_made_and_half_removed_trees_are_swept_by_the_next_daemon(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        path = await revisions.checkout("paul", "p", revision)
        for name in (f".new-{revision}", f".old-{revision}-1"):
            copy_tree(path, str(tmp_path / "trees/paul/p" / name), os.getuid(), os.getgid())
        before = os.stat(path).st_ino
        assert await opened(tmp_path).checkout("paul", "p", revision) == path
        assert os.stat(path).st_ino == before
        assert sorted(os.listdir(tmp_path / "trees/paul/p")) == [".boot", revision]

    trio.run(main)


def test_a_tree_from_before_the_machine_restarted_is_not_trusted(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        await revisions.checkout("paul", "p", revision)
        (tmp_path / "trees/paul/p" / revision / "a").write_bytes(b"")  # as a loss of power can
        (tmp_path / "trees/paul/p/.boot").write_text("another\n")
        assert found(await opened(tmp_path).checkout("paul", "p", revision)) == SOME

    trio.run(main)


def test_a_damaged_object_is_an_error_and_no_tree(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        blob = blob_id(b"alpha")
        loose = tmp_path / "repositories/paul/p.git/objects" / blob[:2] / blob[2:]
        whole = loose.read_bytes()
        for damage in (b"", whole[:-4], b"y" + whole[1:], zlib.compress(b"blob 5\0gamma")):
            loose.chmod(0o644)
            loose.write_bytes(damage)
            with pytest.raises(RisemlError, match=f"{blob}.* is damaged"):
                await revisions.checkout("paul", "p", revision)
            assert os.listdir(tmp_path / "trees/paul/p") == [".boot"]
        loose.unlink()
        with pytest.raises(NotFound, match=blob):
            await revisions.checkout("paul", "p", revision)

    trio.run(main)


def test_a_checkout_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        revisions = opened(tmp_path)
        revision = await sync(revisions, SOME)
        with trio.CancelScope() as scope:
            scope.cancel()
            await revisions.checkout("paul", "p", revision)
        assert scope.cancelled_caught
        assert os.listdir(tmp_path / "trees/paul/p") == [".boot"]

    trio.run(main)


def test_an_empty_directory_comes_back(tmp_path: Path) -> None:
    async def main() -> str:
        revisions = opened(tmp_path)
        none = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        empty = [File(path, 0o040000, 0, none) for path in ("a/b", "z")]
        answer = await revisions.commit("paul", Manifest(project="p", files=empty))
        assert answer.revision is not None
        return await revisions.checkout("paul", "p", answer.revision)

    tree = Path(trio.run(main))
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == ["a", "a/b", "z"]


def test_a_directory_that_has_something_is_not_in_a_manifest_by_itself(tmp_path: Path) -> None:
    listed = Manifest(project="p", files=[File("a", 0o040000, 0, "1" * 40)])
    with pytest.raises(SyncError, match="only an empty directory"):
        trio.run(opened(tmp_path).commit, "paul", listed)
