"""Experiments as text, for `riseml status`: the list, a set with its table, a sub-experiment."""

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from riseml.commands.results_view import cell, names, show_params, show_results
from riseml.screen import age, clean, paint, stamp
from riseml.table import AGE, STATE, render
from riseml_proto import ids
from riseml_proto.errors import NotFound
from riseml_proto.messages import Detail, Member, Summary
from riseml_proto.states import State

_PARAMS = 24  # characters that results leave for the parameters


class View(NamedTuple):
    """How experiments are shown."""

    now: datetime
    long: bool = False
    users: bool = False
    """Whether the list has a column with users."""
    colour: bool = False
    width: int | None = None
    sort: str | None = None
    """The result or parameter that decides the order of the table."""


def show_list(summaries: Sequence[Summary], view: View) -> list[str]:
    """A table with a line per experiment."""
    table: list[tuple[bool, str, Callable[[Summary], str]]] = [
        (True, "ID", lambda summary: summary.id),
        (view.users, "USER", lambda summary: summary.user),
        (True, "PROJECT", lambda summary: summary.project),
        (True, STATE, lambda summary: str(summary.state)),
        (view.users, "GPUS", lambda summary: str(summary.gpus)),
        (True, AGE, lambda summary: age(summary.created_at, view.now)),
        (True, "TYPE", lambda summary: summary.type),
        (view.long and not view.users, "USER", lambda summary: summary.user),
        (view.long, "REVISION", lambda summary: summary.revision[:10] or "-"),
        (view.long, "EXPERIMENTS", lambda summary: show_counts(summary.counts)),
    ]
    columns = [(title, text) for shown, title, text in table if shown]
    rows = [[text(summary) for _, text in columns] for summary in summaries]
    return render([title for title, _ in columns], rows, colour=view.colour, width=view.width)


def show_detail(detail: Detail, member: int | None, view: View) -> list[str]:
    """The lines for an experiment, for a set with its table, or for the `member` of a set."""
    if member is not None:
        return _show_member(detail, member, view)
    facts: dict[str, object] = {
        "ID": detail.id,
        "Type": detail.type,
        "State": paint(detail.state, colour=view.colour),
        "Project": detail.project,
        "Tensorboard": detail.tensorboard or clean(detail.tensorboard_problem or "", colour=False),
    }
    if view.long:
        facts |= _long_facts(detail)
    if detail.count == 0:
        if detail.experiments:
            facts |= _member_facts(detail.experiments[0])
        return _facts(facts | {"Reason": detail.reason, "Output": detail.output_dir})
    if view.long:
        facts |= {"Reason": detail.reason, "Output": detail.output_dir}
    lines = [*_facts(facts), "", *_members(detail, view)]
    if missing := detail.count - len(detail.experiments):
        lines.append(f"{missing:,} more sub-experiments; riseml status -a {detail.id} shows all")
    return lines


def _show_member(detail: Detail, number: int, view: View) -> list[str]:
    experiment = ids.parse(detail.id).experiment or 0
    name = ids.experiment_id(experiment, number)
    member = next((m for m in detail.experiments if ids.parse(m.id).member == number), None)
    if member is None:
        raise NotFound(f"there is no sub-experiment {name}; riseml status {experiment} shows them")
    whole_set = ids.parse(detail.id).member is None
    facts: dict[str, object] = {
        "ID": name,
        "Type": "Sub-experiment",
        "State": paint(member.state, colour=view.colour),
        "Project": detail.project,
    }
    if view.long:
        facts |= _long_facts(detail)
    facts |= {"Params": show_params(member.params)} | _member_facts(member)
    output = f"{detail.output_dir.rstrip('/')}/{number}" if whole_set else detail.output_dir
    return _facts(facts | {"Reason": member.reason, "Output": output})


def _members(detail: Detail, view: View) -> list[str]:
    """The table of a set. Results that would leave no room for the parameters are only named below."""
    members, since = detail.experiments, age(detail.created_at, view.now)
    table = [
        ("EXP ID", [m.id for m in members]),
        (STATE, [str(m.state) for m in members]),
        (AGE, [since for _ in members]),
    ]
    if view.long:
        table += [
            ("GPUS", [",".join(map(str, m.gpus)) or "-" for m in members]),
            ("EXIT", ["-" if m.exit_code is None else str(m.exit_code) for m in members]),
            ("REASON", [clean(m.reason or "-", colour=False) for m in members]),
        ]
    params = ("PARAMS", [show_params(m.params) for m in members])
    room = (view.width or sys.maxsize) - sum(map(_width, table)) - min(_width(params), _PARAMS)
    reported = names(members)
    reported.sort(key=lambda name: name != view.sort)  # the first one is always shown
    left_out = []
    for name in reported:
        title = clean(name, colour=False)
        column = (title.upper(), [cell(m.results.get(name)) for m in members])
        room -= _width(column)
        if room >= 0 or name == reported[0]:
            table.append(column)
        else:
            left_out.append(title)
    table.append(params)
    rows = list(zip(*(cells for _, cells in table), strict=True))
    titles = [title for title, _ in table]
    lines = render(titles, rows, colour=view.colour, width=view.width)
    return [*lines, f"Also reported: {', '.join(left_out)}"] if left_out else lines


def _width(column: tuple[str, list[str]]) -> int:
    title, cells = column
    return max(map(len, (title, *cells))) + 1


def _long_facts(detail: Detail) -> dict[str, object]:
    resources = [f"{name}={amount:g}" for name, amount in detail.resources.items()]
    return {
        "User": detail.user,
        "Revision": detail.revision,
        "Created": stamp(detail.created_at),
        "Ended": stamp(detail.ended_at) if detail.ended_at else None,
        "Image": detail.image,
        "Framework": detail.framework,
        "Tensorboard": detail.tensorboard or clean(detail.tensorboard_problem or "", colour=False),
        "Resources": ", ".join(resources),
        "Concurrency": detail.concurrency if detail.count else None,
        "Time Limit": f"{detail.time_limit:g} second(s)" if detail.time_limit else None,
        "Retries": detail.retries or None,
        "Priority": detail.priority or None,
        "Paused": "yes" if detail.paused else None,
        "Experiments": show_counts(detail.counts) if detail.count else None,
    }


def _member_facts(member: Member) -> dict[str, object]:
    return {
        "Started": stamp(member.started_at) if member.started_at else None,
        "Ended": stamp(member.ended_at) if member.ended_at else None,
        "GPUs": ", ".join(map(str, member.gpus)) or None,
        "Exit Code": member.exit_code,
        "Results": show_results(member),
    }


def _facts(facts: dict[str, object]) -> list[str]:
    return [f"{name}: {value}" for name, value in facts.items() if value not in (None, "")]


def show_counts(counts: dict[str, int]) -> str:
    """`2 RUNNING, 6 CREATED`, the latest state first."""
    order = [state for state in reversed(State) if counts.get(state)]
    return ", ".join(f"{counts[state]:,} {state}" for state in order)
