"""Show experiments and where they stand: a list of those that have not ended, or one in detail.

Without an ID: your experiments that have not ended, newest last.

    ID  PROJECT    STATE     AGE           TYPE
    143 ai-toaster RUNNING   3 hour(s)     Experiment
    144 ai-toaster STARTING  8 second(s)   Set

With a user's name: that user's. With `--all-users`: everybody's.

    ID  USER PROJECT    STATE     GPUS AGE           TYPE
    143 paul ai-toaster RUNNING   2    3 hour(s)     Experiment
    145 anna speech     PENDING   0    8 second(s)   Set

With the ID of a set: where its sub-experiments stand. `AGE` counts from the start of `riseml train`.

    ID: 144
    Type: Set
    State: STARTING
    Project: ai-toaster

    EXP ID STATE     AGE           PARAMS
    144.1  STARTING  8 second(s)   epochs=20, lr=0.0001, lr-decay=1e-6
    144.2  STARTING  8 second(s)   epochs=20, lr=0.0001, lr-decay=1e-7
    144.3  CREATED   8 second(s)   epochs=20, lr=0.001, lr-decay=1e-6

Each result that sub-experiments report gets a column, before the parameters: the last value so far,
numbers with six significant digits, `-` where there is none.

    EXP ID STATE     AGE           ACCURACY LOSS     PARAMS
    144.1  FINISHED  3 minute(s)   0.93     0.212121 epochs=20, lr=0.0001
    144.2  RUNNING   3 minute(s)   0.81     0.407    epochs=20, lr=0.001
    144.3  CREATED   3 minute(s)   -        -        epochs=30, lr=0.0001

On a terminal, results that would leave the parameters no room are named below the table, and
`riseml status 144.2` shows all of one. Lines are cut at the width of a terminal, elsewhere never.
Parameters are the texts that were written in `riseml.yml`.

With the ID of a sub-experiment (`144.2`), or of an experiment without parameters: its times, GPUs, exit
code, reason and output directory. Of one that waits, the reason is what it waits for.

`--sort` with a result puts the best first (`riseml best` tells which is best) and those without it last.
With a parameter it sorts upwards, numbers before texts. Where a parameter and a result share a name it
is the parameter.

`--json` prints a list of objects with `id`, `type`, `state`, `project`, `user`, `revision`, `created_at`
and `counts` (state → number of sub-experiments in it). With an ID it prints one such object that also
has `experiments`, a list of `id`, `state`, `params`, `gpus`, `exit_code`, `reason`, `started_at`,
`ended_at` and `results` (name → last value).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from riseml.commands import add_json, print_json
from riseml.commands.results_view import cell, names, show_results
from riseml.screen import age, clean, columns, has_colour, paint, stamp
from riseml.table import AGE, ID, STATE, Column, render
from riseml.transport.daemon import connect
from riseml.transport.endpoint import Endpoint
from riseml.transport.http import Client
from riseml_proto import ids
from riseml_proto.errors import InvalidInput, NotFound
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import Detail, Member, Summary
from riseml_proto.states import State

LIMIT = 1000
"""Sub-experiments that are shown where -a does not ask for all of them."""
_PARAMS = 24  # characters of the parameters that results leave room for


class View(NamedTuple):
    """When things are shown, to whom, and how much of them."""

    now: datetime
    long: bool = False
    users: bool = False
    """Whether the list says whose things are."""
    colour: bool = False
    width: int | None = None
    sort: str | None = None
    """What decides the order of the table."""

    def state(self, state: State) -> str:
        """A state's name."""
        return paint(state) if self.colour else str(state)

    def table(self, titles: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
        """A table's lines."""
        return render(titles, rows, colour=self.colour, width=self.width)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="such as 144 or 144.2, or a user's name"
    )
    parser.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="ended ones too; with an ID every sub-experiment, where otherwise "
        "the 1,000 around the first unfinished are shown",
    )
    parser.add_argument(
        "--all-users", action="store_true", help="everybody's, on a machine that several share"
    )
    parser.add_argument(
        "-l",
        "--long",
        action="store_true",
        help="more about each: user, revision, resources, GPUs, exit codes, and what it waits for",
    )
    parser.add_argument(
        "--sort",
        metavar="NAME",
        help="with an ID: order by this result, the best first, or by this parameter",
    )
    parser.add_argument("--reverse", action="store_true", help="with --sort: the other way round")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    wanted = CanonicalId(None) if args.id is None else ids.parse(args.id)
    _check_order(wanted, args)
    with connect(args.host) as client:
        if wanted.experiment is None:
            summaries = fetch_list(client, wanted.user, ended=args.all, everybody=args.all_users)
        else:
            every = args.all or args.json
            detail = fetch_detail(client, wanted, every=every, sort=args.sort, reverse=args.reverse)
            if detail.tensorboard and not args.json:
                detail = _reachable(detail, client.endpoint)
    if args.json:
        print_json([plain(s) for s in summaries] if wanted.experiment is None else plain(detail))
        return 0
    out = sys.stdout
    colour = has_colour(out, os.environ)
    view = View(datetime.now(UTC), args.long, args.all_users, colour, columns(out), args.sort)
    if wanted.experiment is not None:
        lines = show_detail(detail, wanted.member, view)
    elif summaries or not out.isatty():
        lines = show_list(summaries, view)
    else:
        lines = [_nothing(wanted.user, ended=args.all)]
    print("\n".join(lines))
    return 0


def _check_order(wanted: CanonicalId, args: argparse.Namespace) -> None:
    if args.reverse and args.sort is None:
        raise InvalidInput("--reverse turns the order of --sort round; say --sort NAME, too")
    if args.all_users and wanted != CanonicalId(None):
        raise InvalidInput("--all-users lists everybody's experiments; leave the ID out")
    if args.sort is not None and (wanted.experiment is None or wanted.member is not None):
        raise InvalidInput("--sort orders the sub-experiments of one set; say its ID, such as 144")


def _nothing(user: str | None, *, ended: bool) -> str:
    whose = f" of user {user}" if user else ""
    if ended:
        return f"No experiments{whose} yet; riseml train starts one"
    return f"No running experiments{whose}; riseml status -a shows ended ones"


def fetch_list(
    client: Client, user: str | None, *, ended: bool, everybody: bool = False
) -> list[Summary]:
    """The running experiments, with `ended` the others too; newest last.

    The caller's own, those of `user` if given, or those of `everybody`.
    """
    flags = {"all": ended, "mine": not everybody and user is None}
    query = "&".join(f"{name}=true" for name, wanted in flags.items() if wanted)
    summaries = client.get("/v1/experiments" + (f"?{query}" if query else ""), list[Summary])
    return sorted(
        (summary for summary in summaries if user in (None, summary.user)),
        key=lambda summary: ids.parse(summary.id).experiment or 0,
    )


def fetch_detail(
    client: Client,
    wanted: CanonicalId,
    *,
    every: bool,
    sort: str | None = None,
    reverse: bool = False,
) -> Detail:
    """The (sub-)experiment `wanted`, with `every` member or `LIMIT` of them, the first of the order.

    Without `sort`, the name of a result or a parameter, they are those around the first unfinished.
    """
    name = quote(str(wanted._replace(job=None, number=None)))
    query = [] if every else [f"limit={LIMIT}"]
    if sort is not None:
        query.append(f"sort={quote(sort, safe='')}")
    if reverse:
        query.append("reverse=true")
    return client.get(f"/v1/experiments/{name}" + (f"?{'&'.join(query)}" if query else ""), Detail)


def _reachable(detail: Detail, endpoint: Endpoint) -> Detail:
    """With the URL under which this machine reaches its TensorBoard."""
    from msgspec.structs import replace

    url = detail.tensorboard or ""
    return replace(detail, tensorboard=endpoint.bring(url) or f"{url} {endpoint.where}")


def plain(summary: Summary) -> dict[str, Any]:
    """What `--json` prints of it."""
    names = "id", "type", "state", "project", "user", "revision", "created_at", "counts", "gpus"
    fields = {name: getattr(summary, name) for name in names}
    return fields | {"experiments": summary.experiments} if isinstance(summary, Detail) else fields


def show_list(summaries: Sequence[Summary], view: View) -> list[str]:
    """A line per experiment."""
    table = [(ID, [s.id for s in summaries])]
    if view.users:
        table.append((Column("USER"), [s.user for s in summaries]))
    table += [
        (Column("PROJECT"), [s.project for s in summaries]),
        (STATE, [str(s.state) for s in summaries]),
    ]
    if view.users:
        table.append((Column("GPUS"), [str(s.gpus) for s in summaries]))
    table += [
        (AGE, [age(s.created_at, view.now) for s in summaries]),
        (Column("TYPE"), [s.type for s in summaries]),
    ]
    if view.long and not view.users:
        table.append((Column("USER"), [s.user for s in summaries]))
    if view.long:
        table += [
            (Column("REVISION"), [s.revision[:10] or "-" for s in summaries]),
            (Column("EXPERIMENTS"), [show_counts(s.counts) for s in summaries]),
        ]
    rows = [list(row) for row in zip(*(cells for _, cells in table), strict=True)]
    return view.table([title for title, _ in table], rows)


def show_detail(detail: Detail, member: int | None, view: View) -> list[str]:
    """An experiment, a set with its table, or one `member` of a set."""
    if member is not None:
        return _show_member(detail, member, view)
    facts: dict[str, object] = {
        "ID": detail.id,
        "Type": detail.type,
        "State": view.state(detail.state),
        "Project": detail.project,
        "Tensorboard": detail.tensorboard,
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
        "State": view.state(member.state),
        "Project": detail.project,
    }
    if view.long:
        facts |= _long_facts(detail)
    facts |= {"Params": show_params(member.params)} | _member_facts(member)
    output = f"{detail.output_dir.rstrip('/')}/{number}" if whole_set else detail.output_dir
    return _facts(facts | {"Reason": member.reason, "Output": output})


def _members(detail: Detail, view: View) -> list[str]:
    """The table, without results that would leave a terminal no room for the parameters."""
    members, since = detail.experiments, age(detail.created_at, view.now)
    table = [
        (Column("EXP ID"), [m.id for m in members]),
        (STATE, [str(m.state) for m in members]),
        (AGE, [since for _ in members]),
    ]
    if view.long:
        table += [
            (Column("GPUS"), [_gpus(m) for m in members]),
            (Column("EXIT"), [_number(m.exit_code) for m in members]),
            (Column("REASON"), [clean(m.reason or "-", colour=False) for m in members]),
        ]
    params = (Column("PARAMS"), [show_params(m.params) for m in members])
    room = (view.width or sys.maxsize) - sum(map(_width, table)) - min(_width(params), _PARAMS)
    reported = names(members)
    reported.sort(key=lambda name: name != view.sort)  # what decides the order is always seen
    left_out = []
    for name in reported:
        title = Column(clean(name, colour=False).upper())
        column = (title, [cell(m.results.get(name)) for m in members])
        room -= _width(column)
        if room >= 0 or name == reported[0]:
            table.append(column)
        else:
            left_out.append(clean(name, colour=False))
    table.append(params)
    rows = list(zip(*(cells for _, cells in table), strict=True))
    lines = view.table([title for title, _ in table], rows)
    return [*lines, f"Also reported: {', '.join(left_out)}"] if left_out else lines


def _width(column: tuple[Column, list[str]]) -> int:
    title, cells = column
    return max(title.width, len(title.title), *map(len, cells), 0) + 1


def _long_facts(detail: Detail) -> dict[str, object]:
    resources = [f"{name}={amount:g}" for name, amount in detail.resources.items()]
    return {
        "User": detail.user,
        "Revision": detail.revision,
        "Created": stamp(detail.created_at),
        "Ended": stamp(detail.ended_at) if detail.ended_at else None,
        "Image": detail.image,
        "Framework": detail.framework,
        "Tensorboard": detail.tensorboard,
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


def show_params(params: dict[str, str]) -> str:
    """`epochs=20, lr=0.0001, lr-decay=1e-6`, in the order in which the daemon has them."""
    return clean(", ".join(f"{name}={value}" for name, value in params.items()), colour=False)


def show_counts(counts: dict[str, int]) -> str:
    """`2 RUNNING, 6 CREATED`, the furthest first."""
    order = [state for state in reversed(State) if counts.get(state)]
    return ", ".join(f"{counts[state]:,} {state}" for state in order)


def _gpus(member: Member) -> str:
    return ",".join(map(str, member.gpus)) or "-"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
