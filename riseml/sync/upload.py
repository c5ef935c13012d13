"""Brings a project's files to the daemon as a revision; only contents that the daemon lacks are sent.

    POST /v1/revisions    the manifest            → a revision, or the ids of missing contents
    POST /v1/objects      the missing contents    → how many arrived
    POST /v1/revisions    the manifest again      → a revision

A content is hashed again while it is sent. If the file has changed since it was listed, all is done once more, the last
times with copies of the files that other programs may be writing to.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import quote_plus

from riseml.progress import size_text
from riseml.sync.files import FileChangedError, ScannedFile, changed, read, show
from riseml.sync.hashes import forget, list_files, new_id
from riseml.sync.scan import Scan
from riseml.transport.http import Client
from riseml_proto.errors import DaemonError, SyncError
from riseml_proto.messages import File, Manifest, Received, Revision

_ATTEMPTS = (
    4  # the first without copies of files; each copy is of one moment, but its place may change
)
_HEAVY_FILE = 50_000_000  # bytes; a model or a data set, seldom code, and half a second of hashing
_HEAVY_PROJECT = 100_000_000  # bytes; ten seconds over a network of 100 Mbit/s
_BATCH = 1 << 18  # bytes; many small files go out in one piece


class Watcher(Protocol):
    """Shows a user how a sync goes on."""

    def start(self, total: int, step: str = "") -> None:
        """A `step` (`reading`, `sending`) begins, which deals with `total` bytes."""

    def advance(self, amount: int) -> None:
        """`amount` bytes more are done."""

    def say(self, text: str) -> None:
        """Tell the user something."""


def sync(
    client: Client, root: bytes, project: str, look: Callable[[], Scan], watcher: Watcher
) -> str:
    """Bring the project in `root` to the daemon, and return its revision; `look` scans it again.

    Raises `SyncError` where a file cannot be read, or was changed each time.
    """
    with TemporaryDirectory(prefix="riseml-") as directory:
        for attempt in range(_ATTEMPTS):
            scanned = look()
            watcher.start(scanned.size, "reading")
            copies = os.fsencode(directory) if attempt else None
            try:
                listing = list_files(root, scanned.files, watcher.advance, copies=copies)
                manifest = Manifest(project=project, files=listing.files)
                return upload(client, root, manifest, listing.sources, watcher)
            except FileChangedError as error:
                forget(root)  # an id in its cache may be wrong
                if attempt == _ATTEMPTS - 1:
                    raise SyncError(str(error)) from None
            except SyncError:
                forget(root)
                raise
    raise AssertionError


def upload(
    client: Client,
    root: bytes,
    manifest: Manifest,
    sources: list[ScannedFile],
    watcher: Watcher,
) -> str:
    """Make a revision of the manifest's files, which are `sources`, and return its id.

    Raises `FileChangedError` where a file changed since it was listed.
    """
    answer = client.post("/v1/revisions", manifest, Revision, patient=True)
    if answer.revision:
        return answer.revision
    missing = pick(manifest.files, sources, answer.missing)
    if named := heavy([source for _, source in missing]):
        watcher.say(named)
    watcher.start(sum(source.size for _, source in missing), "sending")
    path = f"/v1/objects?project={quote_plus(manifest.project)}"
    client.send(path, frames(root, missing, watcher.advance), Received)
    answer = client.post("/v1/revisions", manifest, Revision, patient=True)
    if not answer.revision:
        raise DaemonError(
            f"the daemon still misses {len(answer.missing):,} of the {len(missing):,} contents "
            "that it was sent; run riseml train again, and if that does not help, its log tells why"
        )
    return answer.revision


def heavy(sources: Iterable[ScannedFile]) -> str | None:
    """A sentence on what is large among the files to send; None where nothing is."""
    by_size = sorted(sources, key=lambda source: (-source.size, source.path))
    total = sum(source.size for source in by_size)
    if not by_size or (total <= _HEAVY_PROJECT and by_size[0].size <= _HEAVY_FILE):
        return None
    named = ", ".join(f"{show(one.path)} ({size_text(one.size)})" for one in by_size[:3])
    return (
        f"{size_text(total)} have to be sent, the most in {named}; list what the experiment does "
        "not need in .risemlignore"
    )


def pick(
    files: list[File], sources: list[ScannedFile], missing: Iterable[str]
) -> list[tuple[str, ScannedFile]]:
    """Each id in `missing` with the first file that has it, in the order of the files."""
    wanted = set(missing)
    picked = []
    for file, source in zip(files, sources, strict=True):
        if file.blob in wanted:
            wanted.remove(file.blob)
            picked.append((file.blob, source))
    if wanted or not picked:
        raise DaemonError(
            "the daemon asks for contents that the project does not have; restart it, and run "
            "riseml train again"
        )
    return picked


def frames(
    root: bytes, missing: Iterable[tuple[str, ScannedFile]], advance: Callable[[int], None]
) -> Iterator[bytes]:
    """The body of POST /v1/objects, in pieces of at least `_BATCH` bytes. Raises `SyncError` for a changed file."""
    batch = bytearray()
    for blob, source in missing:
        digest = new_id(source.size)
        batch += b"%s %d\n" % (blob.encode(), source.size)
        for chunk in read(root, source):
            digest.update(chunk)
            batch += chunk
            if len(batch) >= _BATCH:
                yield bytes(batch)
                batch.clear()
            advance(len(chunk))
        if digest.hexdigest() != blob:
            raise changed(source.path)
    yield bytes(batch)
