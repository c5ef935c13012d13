"""A revision that was acknowledged is on disk: every file of it and every name that leads to it was flushed."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from rised.revisions import Revisions
from riseml_proto.messages import File, Manifest

CONTENTS = (b"project: p\n", b"print(1)\n")


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def test_a_revision_is_on_disk_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync
    names: dict[int, set[str]] = {}  # inode → what it held, for a directory, when it was flushed

    def watched(fd: int) -> None:
        flush(fd)
        found = os.fstat(fd)
        here = set(os.listdir(fd)) if os.path.isdir(f"/proc/self/fd/{fd}") else set()
        names.setdefault(found.st_ino, set()).update(here)

    async def body() -> AsyncIterator[bytes]:
        for content in CONTENTS:
            yield b"%s %d\n" % (blob_id(content).encode(), len(content)) + content

    async def sync() -> str | None:
        revisions = Revisions(str(tmp_path), max_files=9, max_bytes=1 << 20)
        await revisions.receive("paul", "p", body())
        files = [File(blob_id(c)[:4], 0o100644, len(c), blob_id(c)) for c in CONTENTS]
        return (await revisions.commit("paul", Manifest(project="p", files=files))).revision

    monkeypatch.setattr(os, "fsync", watched)
    revision = trio.run(sync)
    assert revision is not None

    repository = tmp_path / "repositories" / "paul" / "p.git"
    objects = [path for path in (repository / "objects").rglob("*") if path.is_file()]
    refs = [path for path in (repository / "refs").rglob("*") if path.is_file()]
    assert len(objects) == 4  # two files, their tree, the commit
    assert revision in {path.read_text().strip() for path in refs}
    for path in (*objects, *refs):
        assert path.stat().st_ino in names, f"{path} was not flushed"
        for name in (path, *path.parents):
            if name == tmp_path:
                break
            assert name.name in names.get(name.parent.stat().st_ino, ()), f"{name} may be lost"
