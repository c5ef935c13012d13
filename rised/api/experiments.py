"""Starting, listing, showing and killing experiments."""

from collections.abc import Iterable, Iterator

import msgspec
import trio

from rised.api.context import Context
from rised.api.pages import in_pages
from rised.api.results import order
from rised.http.request import Answer, Request, Streamed
from rised.policy.outcome import KillMode
from rised.storage.rows import ExperimentRow
from rised.users.peer import Peer
from riseml_proto.errors import RisemlError
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import Kill, Killed, Submission, Submitted, Summary

_SUBMISSION_LIMIT = 4 << 20
"""Bytes."""


async def submit(context: Context, request: Request) -> Answer:
    """Start an experiment (`Submission`, answered by `Submitted` when it is on disk)."""
    submission = await request.message(Submission, limit=_SUBMISSION_LIMIT)
    row, warnings = await context.submissions.submit(submission, request.peer)
    return Answer(
        Submitted(
            id=str(row.id),
            count=row.members,
            revision=row.revision,
            output_dir=context.services.layout.output(row),
            warnings=warnings,
        )
    )


async def index(context: Context, request: Request) -> Streamed:
    """List the unfinished experiments as `Summary`; with `?all=true` those that have ended, too.
    `?mine=true` leaves out other users' experiments, `?user=paul` all but paul's. Everybody may see all summaries.
    """
    everything, peer, user = request.flag("all"), request.peer, request.query.get("user")
    if user is not None:
        context.check_user(user)
    mine = request.flag("mine") and context.services.settings.system

    def pages() -> Iterator[list[Summary]]:
        for rows in context.views.rows(ended=everything):
            yield [
                _seen_by(context, peer, row)
                for row in rows
                if user in (None, row.user) and (not mine or row.uid == peer.uid)
            ]

    return in_pages([], pages())


def _seen_by(context: Context, peer: Peer, row: ExperimentRow) -> Summary:
    summary = context.views.summary(row)
    return summary if context.may(peer, row) else msgspec.structs.replace(summary, revision="")


async def show(context: Context, request: Request, target: str) -> Streamed:
    """Show one experiment as `Detail`, with all members; with `?limit=100` that many around the first unfinished one.
    `?sort=accuracy` puts the best by a result first, `?sort=lr` orders by a parameter; `?reverse=true` the other way.
    """
    identity, row = context.target(request.peer, target)
    limit, name = request.number("limit"), request.query.get("sort")
    members: Iterable[int]
    if identity.member is not None:
        members = [identity.member]
    elif name:
        members = await order(context, row, name, limit, reverse=request.flag("reverse"))
    else:
        members = context.views.window(row, limit)
    return in_pages(context.views.detail(row), context.views.pages(row, members))


async def kill(context: Context, request: Request) -> Answer:
    """End experiments or members (`Kill`, answered by `Killed` when nothing is left of them).

    Every ID is checked before anything is killed.
    """
    message = await request.message(Kill)
    mode = KillMode.FORCE if message.force else KillMode.GRACEFUL
    texts = message.ids or [str(context.last(request.peer, message.project))]
    targets = [(text, *context.target(request.peer, text)) for text in texts]
    killed: dict[str, bool] = {}
    errors: list[RisemlError] = []

    async def kill_one(text: str, target: CanonicalId, row: ExperimentRow) -> None:
        try:
            killed[text] = await context.scheduler.killer.kill(row.id, target.member, mode)
        except RisemlError as error:  # the other ones are killed nevertheless
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(kill_one, *target)
    if errors:
        raise errors[0]
    ended = [text for text in texts if not killed[text]]
    return Answer(Killed(killed=[text for text in texts if killed[text]], ended=ended))
