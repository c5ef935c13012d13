"""Brings a project's files to the daemon as a revision; only contents that the daemon lacks are sent.

    POST /v1/revisions    the manifest            → a revision, or the ids of missing contents
    POST /v1/objects      the missing contents    → how many arrived
    POST /v1/revisions    the manifest again      → a revision

A content is hashed again while it is sent. If the file has changed since it was listed, the sync stops.
"""

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote_plus

from riseml.sync.files import ScannedFile, changed, read
from riseml.sync.hashes import new_id
from riseml.transport.http import Client
from riseml_proto.errors import DaemonError
from riseml_proto.messages import File, Manifest, Received, Revision

_BATCH = 1 << 18  # bytes; many small files go out in one piece


def upload(
    client: Client,
    root: bytes,
    manifest: Manifest,
    sources: list[ScannedFile],
    start: Callable[[int], None],
    advance: Callable[[int], None],
) -> str:
    """Make a revision of the manifest's files, which are `sources`, and return its id.

    `start` is called with the number of bytes to send, if any, and `advance` with each number of
    bytes that were sent. Raises `SyncError` where a file changed since it was listed.
    """
    answer = client.post("/v1/revisions", manifest, Revision, patient=True)
    if answer.revision:
        return answer.revision
    missing = pick(manifest.files, sources, answer.missing)
    start(sum(source.size for _, source in missing))
    path = f"/v1/objects?project={quote_plus(manifest.project)}"
    client.send(path, frames(root, missing, advance), Received)
    answer = client.post("/v1/revisions", manifest, Revision, patient=True)
    if not answer.revision:
        raise DaemonError(
            f"the daemon still misses {len(answer.missing):,} of the {len(missing):,} contents "
            "that it was sent; run riseml train again, and if that does not help, its log tells why"
        )
    return answer.revision


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
