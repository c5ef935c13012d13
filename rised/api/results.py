"""Ranking and sorting sub-experiments by the results that they reported."""

from collections.abc import Iterable
from itertools import chain, islice

import trio

from rised.api.context import Context
from rised.api.pages import in_pages
from rised.http.request import Request, Streamed
from rised.search.ranking import Ranking, check, check_sort, choose, is_lower_better, survey
from rised.storage.rows import ExperimentRow
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Best


async def best(context: Context, request: Request, target: str) -> Streamed:
    """Show the best sub-experiment of a set as `Best`; with `?limit=3` the best three.
    `?by=loss` names the result to compare, which is needed where there are several. `?lowest=true` or `false` says
    whether the lowest value is the best one; without it the name of the result decides.
    """
    identity, row = context.target(request.peer, target)
    if identity.member is not None:
        raise InvalidInput(f"{target} is one sub-experiment; say the whole set, {row.id}")
    by, limit = request.query.get("by"), request.number("limit")
    if by is None:
        by = choose(await _survey(context, row), target)
    lowest = request.flag("lowest") if "lowest" in request.query else is_lower_better(by)
    ranking = Ranking(lowest=lowest, most=1 if limit is None else limit)
    check(await _survey(context, row, by, ranking), by, target)
    answer = Best(
        id=str(row.id),
        by=by,
        lowest=lowest,
        reported=ranking.count,
        count=row.members,
        output_dir=context.services.layout.output(row),
        experiments=[],
    )
    return in_pages(answer, context.views.pages(row, ranking.members))


async def order(
    context: Context, row: ExperimentRow, name: str, limit: int | None, *, reverse: bool
) -> Iterable[int]:
    """The members in the order of a parameter, rising, or of a result: the best first, those without it last.

    Of these the first `limit`, if it is given; with `reverse` in reverse order. Raises `NotFound`.
    """
    parameters = context.views.config(row).parameters
    if name in parameters.names:
        return islice(parameters.sorted_members(name, reverse=reverse), limit)
    ranking = Ranking(lowest=is_lower_better(name) is not reverse, most=limit)
    check_sort(await _survey(context, row, name, ranking), parameters.names, name)
    ranked = ranking.members
    seen = set(ranked)
    others = (member for member in context.views.window(row, limit) if member not in seen)
    return islice(chain(ranked, others), limit)


async def _survey(
    context: Context, row: ExperimentRow, name: str = "", ranking: Ranking | None = None
) -> dict[str, bool]:
    """The names of the results that members reported (`survey`). Members with result `name` go into `ranking`."""
    known: dict[str, bool] = {}
    for page in context.views.reported(row):
        for member, results in page:
            survey(known, results)
            if ranking and name in results:
                ranking.add(member, results[name])
        await trio.lowlevel.checkpoint()
    return known
