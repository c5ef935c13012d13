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
`ended_at`, `results` (name → last value) and `waits_for` (what one waits for, as data).
"""

import argparse
import os
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from riseml.commands import add_json, print_json
from riseml.commands.status_view import View, show_detail, show_list
from riseml.screen import columns, has_colour
from riseml.transport.daemon import connect
from riseml.transport.endpoint import Endpoint
from riseml.transport.http import Client
from riseml_proto import ids
from riseml_proto.errors import InvalidInput
from riseml_proto.ids import CanonicalId
from riseml_proto.messages import Detail, Summary

LIMIT = 1000
"""Number of sub-experiments that are shown without -a."""


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
    """The experiments that have not ended, with `ended` the others too; the newest last.

    They are the caller's own, those of `user`, or those of `everybody`.
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
    """The (sub-)experiment `wanted`, with `every` sub-experiment or with `LIMIT` of them.

    `sort`, the name of a result or a parameter, puts the best first. Without it the `LIMIT` are those
    around the first unfinished.
    """
    name = quote(str(wanted._replace(job=None, number=None)))
    query = [] if every else [f"limit={LIMIT}"]
    if sort is not None:
        query.append(f"sort={quote(sort, safe='')}")
    if reverse:
        query.append("reverse=true")
    return client.get(f"/v1/experiments/{name}" + (f"?{'&'.join(query)}" if query else ""), Detail)


def _reachable(detail: Detail, endpoint: Endpoint) -> Detail:
    """`detail` with the URL by which this machine reaches its TensorBoard."""
    from msgspec.structs import replace

    url = detail.tensorboard or ""
    return replace(detail, tensorboard=endpoint.bring(url) or f"{url} {endpoint.where}")


def plain(summary: Summary) -> dict[str, Any]:
    """The fields of `summary` that `--json` prints."""
    names = "id", "type", "state", "project", "user", "revision", "created_at", "counts", "gpus"
    fields = {name: getattr(summary, name) for name in names}
    return fields | {"experiments": summary.experiments} if isinstance(summary, Detail) else fields
