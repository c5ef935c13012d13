"""The ids of files are git's, and the cache of them never costs more than time."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from riseml.sync.files import FileChangedError, ScannedFile, read
from riseml.sync.hashes import forget, list_files, new_id
from riseml.sync.scan import ProjectLimits, scan


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "riseml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


def sources(project: Path) -> list[ScannedFile]:
    return scan(os.fsencode(project), ProjectLimits()).files


def later() -> int:
    """A clock by which everything that a test has written was left alone since."""
    return time.time_ns() + 10**10


def ids(
    project: Path,
    scanned: list[ScannedFile] | None = None,
    now: Callable[[], int] = later,
    advance: Callable[[int], None] = lambda _: None,
) -> list[str]:
    scanned = sources(project) if scanned is None else scanned
    return [file.blob for file in list_files(os.fsencode(project), scanned, advance, now).files]


def test_ids_are_those_of_git(project: Path) -> None:
    (project / "empty").touch()
    (project / "data").write_bytes(bytes(range(256)) * 10_000)
    (project / "link").symlink_to("data")
    (project / "run").write_text("#!/bin/sh\n")
    (project / "run").chmod(0o755)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    subprocess.run(["git", "add", "."], cwd=project, check=True)
    staged = subprocess.run(
        ["git", "ls-files", "-s"], cwd=project, check=True, capture_output=True, text=True
    )
    files = list_files(os.fsencode(project), sources(project), lambda _: None).files
    assert [f"{f.mode:o} {f.blob} 0\t{f.path}" for f in files] == staged.stdout.splitlines()


def test_an_entry_has_the_quoted_path_and_the_size(project: Path) -> None:
    with open(os.fsencode(project) + b"/100%\xff", "wb") as file:
        file.write(b"12345")
    (project / "link").symlink_to("100")
    files = list_files(os.fsencode(project), sources(project), lambda _: None).files
    assert [(file.path, file.mode, file.size) for file in files] == [
        ("100%25%FF", 0o100644, 5),
        ("link", 0o120000, 3),
    ]


def test_every_byte_is_reported_also_of_what_is_known(project: Path) -> None:
    (project / "data").write_bytes(b"x" * 3_000_000)
    for _ in range(2):
        reported: list[int] = []
        ids(project, advance=reported.append)
        assert sum(reported) == 3_000_000


def test_a_file_that_is_known_is_not_read_again(project: Path) -> None:
    (project / "data").write_text("1")
    scanned = sources(project)
    known = ids(project, scanned)
    (project / "data").unlink()
    assert ids(project, scanned) == known


def test_a_file_that_was_written_just_now_is_not_trusted(project: Path) -> None:
    (project / "data").write_text("1")
    scanned = sources(project)
    ids(project, scanned, now=time.time_ns)
    (project / "data").unlink()
    assert ids(project, scanned) == []


def test_a_file_that_changed_is_read_again_though_its_size_is_the_same(project: Path) -> None:
    (project / "data").write_text("1")
    before = ids(project)
    (project / "data").write_text("2")
    os.utime(project / "data", ns=(0, 1))
    after = ids(project)
    assert after != before
    assert ids(project) == after


def test_a_file_that_was_replaced_is_read_again_though_its_time_is_the_same(project: Path) -> None:
    for name, text in (("data", "1"), ("other", "2")):
        (project / name).write_text(text)
        os.utime(project / name, ns=(0, 0))
    one, two = ids(project)
    os.rename(project / "other", project / "data")
    assert ids(project) == [two] != [one]


def test_a_damaged_cache_is_as_good_as_none(project: Path, cache: Path) -> None:
    (project / "data").write_text("1")
    right = ids(project)
    [cache_file] = cache.iterdir()
    whole = cache_file.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for damaged in [*(whole[:end] for end in range(len(whole))), *flipped, b"\n", whole + b"x"]:
        cache_file.write_bytes(damaged)
        assert ids(project) == right
    assert cache_file.read_bytes() == whole
    assert list(cache.iterdir()) == [cache_file]


@pytest.mark.parametrize("value", ["/dev/null/cache", "/proc/none"])
def test_a_cache_that_cannot_be_written_is_no_error(
    project: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (project / "data").write_text("1")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert ids(project) == ids(project)


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_without_a_proper_cache_home_it_is_the_one_in_the_home_directory(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (project / "data").write_text("1")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    ids(project)
    assert len(list((tmp_path / "home" / ".cache" / "riseml").iterdir())) == 1


def test_files_that_are_gone_are_forgotten(project: Path, cache: Path) -> None:
    for name in ("a", "b"):
        (project / name).write_text(name)
    ids(project)
    [cache_file] = cache.iterdir()
    assert b"\x01b" in cache_file.read_bytes()
    (project / "b").unlink()
    ids(project)
    assert b"\x01b" not in cache_file.read_bytes()


def test_what_was_learned_before_an_interruption_is_kept(project: Path) -> None:
    for name in ("a", "b"):
        (project / name).write_text(name)
    scanned = sources(project)

    def interrupt(_: int) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(_)

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        ids(project, scanned, advance=interrupt)
    (project / "a").unlink()
    assert len(ids(project, scanned)) == 2


def test_projects_do_not_share_what_they_know(project: Path, tmp_path: Path, cache: Path) -> None:
    (project / "data").write_text("1")
    ids(project)
    os.rename(project, tmp_path / "moved")
    ids(tmp_path / "moved")
    assert len(list(cache.iterdir())) == 2


def test_forgetting_makes_every_file_be_read_again(project: Path) -> None:
    (project / "data").write_text("1")
    scanned = sources(project)
    ids(project, scanned)
    forget(os.fsencode(project))
    forget(os.fsencode(project))
    (project / "data").unlink()
    assert ids(project, scanned) == []


def vanish(file: Path) -> None:
    file.unlink()


def grow(file: Path) -> None:
    file.write_text("12345")


def shrink(file: Path) -> None:
    os.truncate(file, 2)


def become_a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/hostname")


def become_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def become_a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def take(project: Path, change: Callable[[Path], None]) -> bytes | None:
    """What is listed of data.csv if it changes after the scan: its content, or None if it is left out."""
    file = project / "data.csv"
    file.write_text("1234")
    scanned = sources(project)
    change(file)
    listing = list_files(os.fsencode(project), scanned, lambda _: None)
    for listed, source in zip(listing.files, listing.sources, strict=True):
        content = b"".join(read(os.fsencode(project), source))
        assert (len(content), blob_id(content)) == (listed.size, listed.blob)
        return content
    return None


def blob_id(content: bytes) -> str:
    return new_id(len(content), content).hexdigest()


@pytest.mark.parametrize(("change", "content"), [(vanish, None), (grow, b"12345"), (shrink, b"12")])
def test_a_file_that_changed_since_the_scan_is_taken_as_it_is(
    project: Path, change: Callable[[Path], None], content: bytes | None
) -> None:
    assert take(project, change) == content


@pytest.mark.parametrize("change", [become_a_link, become_a_pipe, become_a_directory])
def test_what_is_no_file_any_more_asks_for_another_look(
    project: Path, change: Callable[[Path], None]
) -> None:
    with pytest.raises(FileChangedError, match=r"^data\.csv changed while it was being synced; "):
        take(project, change)


def test_a_file_that_grows_while_it_is_read_has_the_size_that_it_was_opened_with(
    project: Path,
) -> None:
    file = project / "data.csv"
    file.write_bytes(b"x" * 3_000_000)

    def append(_: int) -> None:
        with open(file, "ab") as out:
            out.write(b"y" * 2_000_000)

    assert ids(project, advance=append) == [blob_id(b"x" * 3_000_000)]
    assert ids(project) == [blob_id(file.read_bytes())]  # the first id was not kept


def test_a_file_that_shrinks_while_it_is_read_is_read_again(project: Path) -> None:
    file = project / "data.csv"
    file.write_bytes(b"x" * 3_000_000)

    def cut(_: int) -> None:
        os.truncate(file, 1_500_000)

    assert ids(project, advance=cut) == [blob_id(b"x" * 1_500_000)]


def test_a_file_that_is_written_to_is_copied_where_it_is_asked_for(
    project: Path, tmp_path: Path
) -> None:
    (project / "busy").write_text("one")
    (project / "quiet").write_text("two")
    os.utime(project / "quiet", ns=(0, 0))
    root, copies = os.fsencode(project), tmp_path / "copies"
    copies.mkdir()

    def overwrite(_: int) -> None:
        (project / "busy").write_text("ONE")

    listing = list_files(root, sources(project), overwrite, copies=os.fsencode(copies))
    assert listing.files[0].blob == blob_id(b"one")
    assert b"".join(read(root, listing.sources[0])) == b"one"


def test_an_empty_directory_has_the_id_that_git_gives_it(project: Path) -> None:
    (project / "logs").mkdir()
    [listed] = list_files(os.fsencode(project), sources(project), lambda _: None).files
    made = subprocess.run(
        ["git", "hash-object", "-t", "tree", "/dev/null"], capture_output=True, check=True
    )
    assert (listed.mode, listed.blob) == (0o040000, made.stdout.decode().strip())
