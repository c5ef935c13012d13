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

With `tensorboard: true` the line `Tensorboard:` has its URL, or how it ended by itself and where its log is.

`--sort` with a result puts the best first (`riseml best` tells which is best) and those without it last.
With a parameter it sorts upwards, numbers before texts. Where a parameter and a result share a name it
is the parameter.

`--json` prints a list of objects with `id`, `type`, `state`, `project`, `user`, `revision`, `created_at`
and `counts` (state → number of sub-experiments in it). With an ID it prints one such object that also
has `experiments`, a list of `id`, `state`, `params`, `gpus`, `exit_code`, `reason`, `started_at`,
`ended_at`, `results` (name → last value) and `waits_for` (what one waits for, as data). It has
`tensorboard_problem`, too: null, or how its TensorBoard ended by itself.
"""

import argparse
import os
import sys
from typing import Any
from urllib.parse import quote

import msgspec

from riseml.commands import add_json, show
from riseml.commands.status_view import View, show_detail, show_list
from riseml.screen import columns, has_colour
from riseml.transport.daemon import connect
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
    out = sys.stdout
    colour = has_colour(out, os.environ)
    with connect(args.host) as client:
        view = View(client.now, args.long, args.all_users, colour, columns(out), args.sort)
        if wanted.experiment is None:
            return _show_list(client, wanted.user, view, args)
        try:
            detail = _detail(client, wanted, args)
        except InvalidInput as error:
            user = ids.readings(args.id)[-1]
            if user.experiment is not None or not str(error).startswith(f"{args.id} names a user"):
                raise
            return _show_list(client, user.user, view, args)
        wanted = _meant(args.id, detail)
        if detail.tensorboard and not args.json:
            here = client.endpoint.bring(detail.tensorboard)
            url = here or f"{detail.tensorboard} {client.endpoint.where}"
            detail = msgspec.structs.replace(detail, tensorboard=url)
        view = view._replace(now=client.now)
    lines = [] if args.json else show_detail(detail, wanted.member, view)
    return show(args, plain(detail), lines)


def _show_list(client: Client, user: str | None, view: View, args: argparse.Namespace) -> int:
    summaries = _list(client, user, args)
    lines = show_list(summaries, view._replace(now=client.now))
    if sys.stdout.isatty() and not summaries:
        lines = [_nothing(user, ended=args.all)]
    return show(args, [plain(summary) for summary in summaries], lines)


def _meant(text: str, detail: Detail) -> CanonicalId:
    """Which reading of `text` the daemon has answered: a user's name may be a number."""
    number = ids.parse(detail.id).experiment
    meant = (reading for reading in ids.readings(text) if reading.experiment == number)
    return next(meant, ids.parse(text))


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


def _list(client: Client, user: str | None, args: argparse.Namespace) -> list[Summary]:
    """The caller's own experiments, those of `user`, or with --all-users everybody's; newest last."""
    flags = {"all": args.all, "mine": not args.all_users and user is None}
    query = {name: "true" for name, wanted in flags.items() if wanted}
    if user is not None:
        query["user"] = user
    summaries = client.get("/v1/experiments", list[Summary], query)
    own = [summary for summary in summaries if user in (None, summary.user)]
    return sorted(own, key=lambda summary: ids.parse(summary.id).experiment or 0)


def _detail(client: Client, wanted: CanonicalId, args: argparse.Namespace) -> Detail:
    name = quote(str(wanted._replace(job=None, number=None)))
    query: dict[str, object] = {} if args.all or args.json else {"limit": LIMIT}
    if args.sort is not None:
        query["sort"] = args.sort
    if args.reverse:
        query["reverse"] = "true"
    return client.get(f"/v1/experiments/{name}", Detail, query)


def plain(summary: Summary) -> dict[str, Any]:
    """The fields of `summary` that `--json` prints."""
    names = "id", "type", "state", "project", "user", "revision", "created_at", "counts", "gpus"
    fields = {name: getattr(summary, name) for name in names}
    if not isinstance(summary, Detail):
        return fields
    more = "experiments", "tensorboard_problem"
    return fields | {name: getattr(summary, name) for name in more}
