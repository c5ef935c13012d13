"""States and output of experiments: those so far, and with `follow` those to come."""

import msgspec

from rised.api.context import Context
from rised.http.request import Request, Send, Streamed
from rised.logs.raw import raw
from rised.logs.stream import LogStream
from rised.queries.history import StoredHistory
from rised.storage.rows import TRAIN
from riseml_proto.errors import InvalidInput
from riseml_proto.ids import CanonicalId, experiment_id
from riseml_proto.messages import Entry, LogRequest

_TOO_MANY = 1 << 53  # JSON's readers may take this number and the next for the same


async def post(context: Context, request: Request) -> Streamed:
    """Stream states and output (`LogRequest`, answered by entries)."""
    return _answer(context, request, await request.message(LogRequest, limit=8 << 20))


async def get(context: Context, request: Request, target: str) -> Streamed:
    """Stream states and output to `curl`: `?follow=true`, `?tail=10`, `?since=TIME`, `?raw=true`."""
    message = LogRequest(
        id=target,
        follow=request.flag("follow"),
        tail=request.number("tail"),
        since=request.moment("since"),
        raw=request.flag("raw"),
    )
    return _answer(context, request, message)


def _answer(context: Context, request: Request, message: LogRequest) -> Streamed:
    _check(message)
    text = message.id or str(context.last(request.peer, message.project))
    target, row = context.target(request.peer, text)
    if message.raw:
        return _raw(context, message, target, row.members)

    services = context.services
    history = StoredHistory(services.database, context.views, services.layout)

    async def write(send: Send) -> None:
        encoder = msgspec.json.Encoder()

        async def send_entries(entries: list[Entry]) -> None:
            await send(encoder.encode_lines(entries))

        member = target.member if row.members else None
        with services.transitions.subscriptions.listen(row.id, member) as subscription:
            await LogStream(message, target, history).run(subscription, send_entries)

    return Streamed(write)


def _check(message: LogRequest) -> None:
    """Raise `InvalidInput` for a number that is negative or too large."""
    numbers = {"tail": message.tail or 0, "after": message.after}
    numbers |= {f"offsets: {key}": value for key, value in message.offsets.items()}
    for name, value in numbers.items():
        if not 0 <= value < _TOO_MANY:
            raise InvalidInput(f"{name} must be 0 or more and less than {_TOO_MANY}, not {value}")


def _raw(context: Context, message: LogRequest, target: CanonicalId, count: int) -> Streamed:
    assert target.experiment is not None
    number, member = target.experiment, target.member or 0
    job = target.job or TRAIN
    if count and not member and job == TRAIN:
        raise InvalidInput(
            f"the bytes of a log are one job's; say which, such as {experiment_id(number, 1)}"
        )

    async def write(send: Send) -> None:
        with context.services.transitions.subscriptions.listen(number) as subscription:
            attempt = max(1, context.views.attempt(number, member, job))
            path = context.services.layout.log(number, member, job, attempt)
            await raw(
                path,
                follow=message.follow,
                ended=lambda: context.views.attempt_ended(number, member, job, attempt),
                subscription=subscription,
                send_bytes=send,
            )

    return Streamed(write, "application/octet-stream")
