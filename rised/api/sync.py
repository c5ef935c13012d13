"""Receiving the files of a project."""

from rised.api.context import Context
from rised.http.request import Answer, Request
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Manifest, Received

_MANIFEST_LIMIT = 128 << 20
"""Bytes. A hundred thousand files with long names need about thirty million."""


async def revisions(context: Context, request: Request) -> Answer:
    """Make a revision of a project's files (`Manifest`, answered by `Revision`)."""
    manifest = await request.message(Manifest, limit=_MANIFEST_LIMIT)
    return Answer(await context.services.revisions.commit(request.peer.user, manifest))


async def objects(context: Context, request: Request) -> Answer:
    """Receive the blobs that a revision of `?project=NAME` lacks (answered by `Received`)."""
    project = request.query.get("project")
    if not project:
        raise InvalidInput("/v1/objects needs ?project=NAME")
    received = await context.services.revisions.receive(request.peer.user, project, request.body())
    return Answer(Received(received=received))
