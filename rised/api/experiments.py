"""Starting, listing, looking at and killing experiments."""

from collections.abc import Iterator

import msgspec
import trio

from rised.api.context import Context
from rised.api.pages import in_pages
from rised.api.results import order
from rised.experiments.experiment import check_member
from rised.http.request import Answer, Request, Streamed
from rised.policy.outcome import KillMode
from rised.storage.rows import ExperimentRow
from rised.users.peer import Peer
from riseml_proto.errors import (
    RisemlError,
)
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
            output_dir=context.views.output_dir(row),
            warnings=warnings,
        )
    )


async def index(context: Context, request: Request) -> Streamed:
    """List the unfinished ones as `Summary`; with `?all=true` the ended ones, too.
    `?mine=true` leaves out those of others, of which everybody may see that much.
    """
    everything, peer = request.flag("all"), request.peer
    mine = request.flag("mine") and context.settings.system

    def pages() -> Iterator[list[Summary]]:
        for rows in context.views.rows(ended=everything):
            yield [_seen_by(context, peer, row) for row in rows if not mine or row.uid == peer.uid]

    return in_pages([], pages())


def _seen_by(context: Context, peer: Peer, row: ExperimentRow) -> Summary:
    found = context.views.summary(row)
    return found if context.may(peer, row) else msgspec.structs.replace(found, revision="")


async def show(context: Context, request: Request, target: str) -> Streamed:
    """Show one as `Detail`, with all members, or with `?limit=100` around the first unfinished.
    `?sort=accuracy` puts the best by a result first, `?sort=lr` orders by a parameter; `?reverse=true` the other way.
    """
    found, row = context.target(request.peer, target)
    check_member(row.members, row.id, found.member)
    limit, name = request.number("limit"), request.query.get("sort")
    if name and found.member is None:
        members = await order(context, row, name, limit, reverse=request.flag("reverse"))
        return in_pages(context.views.detail(row), context.views.chosen(row, members))
    first, last = context.views.window(row, limit)
    if found.member is not None:
        first = last = found.member
    return in_pages(context.views.detail(row), context.views.pages(row, first, last))


async def kill(context: Context, request: Request) -> Answer:
    """End experiments or members (`Kill`, answered by `Killed` when nothing is left of them).

    All IDs are understood before anything is killed.
    """
    asked = await request.message(Kill)
    mode = KillMode.FORCE if asked.force else KillMode.GRACEFUL
    texts = asked.ids or [str(context.last(request.peer, asked.project))]
    targets = []
    for text in texts:
        found, row = context.target(request.peer, text)
        check_member(row.members, row.id, found.member)
        targets.append((text, row.id, found.member))
    killed: dict[str, bool] = {}
    failed: list[RisemlError] = []

    async def kill_one(text: str, number: int, member: int | None) -> None:
        try:
            killed[text] = await context.scheduler.kill(number, member, mode)
        except RisemlError as error:  # the others are killed all the same
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(kill_one, *target)
    if failed:
        raise failed[0]
    return Answer(
        Killed(
            killed=[text for text in texts if killed[text]],
            ended=[text for text in texts if not killed[text]],
        )
    )
