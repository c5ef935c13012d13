"""Ranking and sorting sub-experiments by the results that they reported."""

from collections.abc import Callable, Container, Iterable
from functools import partial
from itertools import chain, islice

import trio

from rised.api.context import Context
from rised.api.pages import in_pages
from rised.experiments import results
from rised.http.request import Request, Streamed
from rised.linux.threads import in_thread
from rised.search.ranking import Ranking, best_of, check, check_sort, choose, direction, survey
from rised.storage.experiments import owner_of
from rised.storage.rows import ExperimentRow
from riseml_proto.errors import InvalidInput, NotFound
from riseml_proto.messages import Best
from riseml_proto.states import State

_FAILED = (State.FAILED, State.KILLED)


async def best(context: Context, request: Request, target: str) -> Streamed:
    """Show the best sub-experiment of a set as `Best`; with `?limit=3` the best three.
    `?by=loss` names the result to compare; without it the set's `objective` does, or the only result that there is.
    `?lowest=true` or `false` says whether the lowest value is the best one; without it the objective or the name of the
    result does. With `?history=true` the best value that each reported counts, not its last. Those that failed or were
    killed count only with `?failed=true`.
    """
    identity, row = context.target(request.peer, target)
    if identity.member is not None:
        raise InvalidInput(f"{target} is one sub-experiment; say the whole set, {row.id}")
    by, limit = request.query.get("by"), request.number("limit")
    objective = context.views.config(row).objective
    if by is None:
        by = objective.result if objective else choose(await _survey(context, row), target)
    if "lowest" in request.query:
        lowest = request.flag("lowest")
    else:
        check(await _survey(context, row), by, target)
        lowest = direction(by, objective, "say --min or --max")
    history, failed = request.flag("history"), request.flag("failed")
    ranking = Ranking(lowest=lowest, most=1 if limit is None else limit)
    value_of = partial(_best_value, context, row, by, lowest) if history else None
    known = await _survey(
        context, row, by, ranking, without=() if failed else _FAILED, value_of=value_of
    )
    check(known, by, target)
    if not ranking.count:
        raise NotFound(
            f"no sub-experiment of {target} that reported {by} has finished or runs;"
            " --failed counts those that failed or were killed"
        )
    answer = Best(
        id=str(row.id),
        by=by,
        lowest=lowest,
        reported=ranking.count,
        count=row.members,
        output_dir=context.services.layout.output(row),
        history=history,
        values=ranking.values,
        experiments=[],
    )
    return in_pages(answer, context.views.pages(row, ranking.members))


def _best_value(
    context: Context, row: ExperimentRow, by: str, lowest: bool, member: int, last: object
) -> float | None:
    """The best value of a result that a member reported; that of its last where its reports are gone."""
    output = context.services.layout.output(row, member)
    values = results.history(output, owner_of(row), by)
    return best_of([*values, last], lowest=lowest)


async def order(
    context: Context, row: ExperimentRow, name: str, limit: int | None, *, reverse: bool
) -> Iterable[int]:
    """The members in the order of a parameter, rising, or of a result: the best first, those without it last.

    Of these the first `limit`, if it is given; with `reverse` in reverse order. Raises `NotFound`.
    """
    parameters = context.views.config(row).parameters
    if name in parameters.names:
        return islice(parameters.sorted_members(name, reverse=reverse), limit)
    check_sort(await _survey(context, row), parameters.names, name)
    objective = context.views.config(row).objective
    lowest = direction(name, objective, "riseml best --min or --max shows the best")
    ranking = Ranking(lowest=lowest is not reverse, most=limit)
    await _survey(context, row, name, ranking)
    ranked = ranking.members
    seen = set(ranked)
    others = (member for member in context.views.window(row, limit) if member not in seen)
    return islice(chain(ranked, others), limit)


async def _survey(
    context: Context,
    row: ExperimentRow,
    name: str = "",
    ranking: Ranking | None = None,
    *,
    without: Container[State] = (),
    value_of: Callable[[int, object], object] | None = None,
) -> dict[str, bool]:
    """The names of the results that members reported (`survey`). Members with result `name` go into `ranking`.

    Members in one of the states `without` do not. `value_of` member and last value is what counts, if not that itself.
    """
    known: dict[str, bool] = {}
    for page in context.views.reported(row):
        for member, state, reported in page:
            survey(known, reported)
            if ranking and name in reported and state not in without:
                value: object = reported[name]
                if value_of:
                    value = await in_thread(value_of, member, value)
                ranking.add(member, value)
        await trio.lowlevel.checkpoint()
    return known
