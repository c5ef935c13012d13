"""A TensorBoard on request, also for experiments that ended long ago."""

import msgspec

from rised.api.context import Context
from rised.http.request import Request, Send, Streamed
from rised.tensorboard.manager import NOT_INSTALLED, is_installed
from rised.users.owner import of_peer
from riseml_proto import ids
from riseml_proto.errors import Unsatisfiable
from riseml_proto.messages import Board, BoardRequest


async def serve(context: Context, request: Request) -> Streamed:
    """Serve a TensorBoard (`BoardRequest`, answered by a `Board`) until the connection is closed."""
    message = await request.message(BoardRequest)
    if not is_installed():
        raise Unsatisfiable(NOT_INSTALLED)
    texts = message.ids or [str(context.last(request.peer, message.project))]
    outputs = {}
    for text in texts:
        target, row = context.target(request.peer, text)
        member = target.member or 0
        outputs[ids.experiment_id(row.id, member)] = context.services.layout.output(row, member)

    async def write(send: Send) -> None:
        shown = ""

        async def send_url(url: str) -> None:
            nonlocal shown
            shown = url
            await send(msgspec.json.encode(Board(url=url)) + b"\n")

        how = await context.tensorboards.serve_outputs(of_peer(request.peer), outputs, send_url)
        await send(msgspec.json.encode(Board(url=shown, ended=how)) + b"\n")

    return Streamed(write)
