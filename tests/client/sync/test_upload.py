"""Only what the daemon lacks travels, and never anything but what was listed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from riseml.sync.files import FileChangedError, ScannedFile
from riseml.sync.hashes import list_files
from riseml.sync.scan import ProjectLimits, Scan, scan
from riseml.sync.upload import frames, heavy, pick, sync, upload
from riseml.transport.http import Client
from riseml_proto.errors import DaemonError, SyncError
from riseml_proto.messages import Manifest
from tests.client.storing_daemon import StoringDaemon


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoringDaemon]:
    with StoringDaemon(str(tmp_path / "socket")) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "project"
    path.mkdir()
    return path


class Sync:
    """One sync of the project, and what it reported."""

    def __init__(self, server: StoringDaemon, project: Path) -> None:
        self.root = os.fsencode(project)
        self.sources = scan(self.root, ProjectLimits()).files
        files = list_files(self.root, self.sources, lambda _: None).files
        self.manifest = Manifest(project="toaster", files=files)
        self.started: list[int] = []
        self.sent = 0
        self.said: list[str] = []
        self._server = server

    def go(self) -> str:
        with Client(self._server.path) as client:
            return upload(client, self.root, self.manifest, self.sources, self)

    def start(self, total: int, step: str = "") -> None:
        assert step == "sending"
        self.started.append(total)

    def advance(self, amount: int) -> None:
        self.sent += amount

    def say(self, text: str) -> None:
        self.said.append(text)


def test_everything_arrives_as_it_was(server: StoringDaemon, project: Path) -> None:
    (project / "empty").touch()
    (project / "data").write_bytes(os.urandom(3_000_000))
    (project / "link").symlink_to("data")
    (project / "run").write_text("#!/bin/sh\n")
    (project / "run").chmod(0o755)
    with open(os.fsencode(project) + b"/\xff\n%", "wb") as file:
        file.write(b"12345 1\n")
    Sync(server, project).go()
    assert server.files() == {
        "data": (0o100644, (project / "data").read_bytes()),
        "empty": (0o100644, b""),
        "link": (0o120000, b"data"),
        "run": (0o100755, b"#!/bin/sh\n"),
        "%FF\n%25": (0o100644, b"12345 1\n"),
    }
    assert server.projects == ["toaster"]


def test_only_what_changed_travels_and_each_content_once(
    server: StoringDaemon, project: Path
) -> None:
    for name in ("a", "b", "c", "d"):
        (project / name).write_text("same" if name in "bd" else name)
    first = Sync(server, project)
    before = first.go()
    assert [len(blobs) for blobs in server.uploads] == [3]
    assert first.started == [first.sent] == [6]
    (project / "c").write_text("new")
    second = Sync(server, project)
    assert second.go() != before
    assert [len(blobs) for blobs in server.uploads] == [3, 1]
    assert second.sent == 3


def test_contents_travel_in_the_order_of_the_files(server: StoringDaemon, project: Path) -> None:
    for number in range(20):
        (project / f"{number:02}").write_text(str(number))
    sync = Sync(server, project)
    sync.go()
    assert server.uploads == [[file.blob for file in sync.manifest.files]]


def test_an_unchanged_project_sends_nothing_and_is_the_same_revision(
    server: StoringDaemon, project: Path
) -> None:
    (project / "a").write_text("a")
    before = Sync(server, project).go()
    again = Sync(server, project)
    assert again.go() == before
    assert (len(server.uploads), again.started) == (1, [])


def test_many_small_files_go_out_in_few_pieces(project: Path) -> None:
    for number in range(100):
        (project / str(number)).write_text(str(number))
    root = os.fsencode(project)
    scanned = scan(root, ProjectLimits()).files
    blobs = [file.blob for file in list_files(root, scanned, lambda _: None).files]
    pieces = list(frames(root, zip(blobs, scanned, strict=True), lambda _: None))
    assert len(pieces) == 1
    assert pieces[0].startswith(blobs[0].encode() + b" 1\n0" + blobs[1].encode())


def test_a_file_that_changed_with_all_its_traces_covered_is_caught_on_its_way(
    server: StoringDaemon, project: Path
) -> None:
    (project / "data.csv").write_text("1234")
    sync = Sync(server, project)
    sync.manifest.files[0] = type(sync.manifest.files[0])("data.csv", 0o100644, 4, "a" * 40)
    with pytest.raises(FileChangedError, match=r"^data\.csv changed while it was being synced; "):
        sync.go()
    assert server.objects == {}


def test_a_file_that_vanishes_before_it_is_sent_is_named(
    server: StoringDaemon, project: Path
) -> None:
    (project / "a").write_text("a")
    (project / "data.csv").write_text("1234")
    sync = Sync(server, project)
    (project / "data.csv").unlink()
    with pytest.raises(FileChangedError, match=r"^data\.csv changed while it was being synced; "):
        sync.go()
    assert len(server.manifests) == 1


def test_a_link_travels_as_it_was_when_it_was_listed(server: StoringDaemon, project: Path) -> None:
    (project / "link").symlink_to("a")
    sync = Sync(server, project)
    (project / "link").unlink()
    (project / "link").symlink_to("b")
    sync.go()
    assert server.files() == {"link": (0o120000, b"a")}


def test_a_daemon_that_loses_what_it_was_sent_is_an_error(
    server: StoringDaemon, project: Path
) -> None:
    (project / "a").write_text("a")
    server.loses_objects = True
    with pytest.raises(DaemonError, match="still misses 1 of the 1 contents"):
        Sync(server, project).go()
    assert len(server.uploads) == 1


@pytest.mark.parametrize("missing", [["f" * 40], []])
def test_a_daemon_that_asks_for_something_else_is_an_error(
    project: Path, missing: list[str]
) -> None:
    (project / "a").write_text("a")
    root = os.fsencode(project)
    scanned: list[ScannedFile] = scan(root, ProjectLimits()).files
    with pytest.raises(DaemonError, match="contents that the project does not have"):
        pick(list_files(root, scanned, lambda _: None).files, scanned, missing)


class Looking:
    """A watcher of a whole sync, which calls `meanwhile` as soon as files have been read or are being sent."""

    def __init__(self, meanwhile: Callable[[str], None]) -> None:
        self._meanwhile = meanwhile
        self.step = ""

    def start(self, total: int, step: str = "") -> None:
        self.step = step
        self._meanwhile(step)

    def advance(self, amount: int) -> None:
        self._meanwhile(self.step)

    def say(self, text: str) -> None:
        raise AssertionError(text)


def run_sync(server: StoringDaemon, project: Path, meanwhile: Callable[[str], None]) -> None:
    root = os.fsencode(project)
    with Client(server.path) as client:
        sync(client, root, "toaster", lambda: scan(root, ProjectLimits()), Looking(meanwhile))


def test_a_file_that_grows_all_the_time_arrives_as_it_was_at_one_moment(
    server: StoringDaemon, project: Path
) -> None:
    log = project / "growing.log"
    log.write_text("line\n")

    def write(_: str) -> None:
        with open(log, "a", encoding="utf-8") as out:
            out.write("line\n")

    run_sync(server, project, write)
    [(_, content)] = server.files().values()
    assert content == b"line\n" * (len(content) // 5)
    assert len(server.uploads) == 1  # nothing had to be done again


def test_a_file_that_is_rewritten_all_the_time_arrives_as_it_was_at_one_moment(
    server: StoringDaemon, project: Path
) -> None:
    (project / "code.py").write_text("code")
    (project / "state").write_text("0")
    count = 0

    def rewrite(_: str) -> None:
        nonlocal count
        count += 1
        (project / "state").write_text(str(count))

    run_sync(server, project, rewrite)
    assert server.files()["state"][1].isdigit()
    assert list(server.files()) == ["code.py", "state"]


def test_files_that_come_and_go_stop_nothing(server: StoringDaemon, project: Path) -> None:
    (project / "code.py").write_text("code")
    count = 0

    def come_and_go(_: str) -> None:
        nonlocal count
        (project / f"temporary-{count}").unlink(missing_ok=True)
        count += 1
        (project / f"temporary-{count}").write_text(str(count))

    run_sync(server, project, come_and_go)
    assert "code.py" in server.files()


def test_large_files_are_named_before_they_travel(server: StoringDaemon, project: Path) -> None:
    (project / "code.py").write_text("code")
    with open(project / "model.pt", "wb") as file:
        file.truncate(60_000_000)
    first, second = Sync(server, project), Sync(server, project)
    first.go()
    assert first.said == [
        "60.0 MB have to be sent, the most in model.pt (60.0 MB), code.py (4 B); list what the "
        "experiment does not need in .risemlignore"
    ]
    second.go()
    assert second.said == []  # it is there


def test_many_files_that_are_large_together_are_named(project: Path) -> None:
    for number in range(3):
        with open(project / f"{number}.bin", "wb") as file:
            file.truncate(40_000_000)
    scanned = scan(os.fsencode(project), ProjectLimits()).files
    assert heavy(scanned[:2]) is None
    assert "120.0 MB have to be sent" in (heavy(scanned) or "")


def test_a_project_that_never_stands_still_ends_in_an_error_that_names_the_file(
    server: StoringDaemon, project: Path
) -> None:
    looks = 0

    def look() -> Scan:
        nonlocal looks
        looks += 1
        if looks > 1:
            (project / "x").rmdir()
        (project / "x").write_text("file")
        return scan(os.fsencode(project), ProjectLimits())

    def replace(step: str) -> None:
        if step == "reading" and (project / "x").is_file():
            (project / "x").unlink()
            (project / "x").mkdir()

    with Client(server.path) as client, pytest.raises(SyncError, match=r"^x changed while"):
        sync(client, os.fsencode(project), "toaster", look, Looking(replace))
    assert looks == 4
