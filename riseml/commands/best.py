"""Show the best sub-experiment by what it reported: its ID, parameters, results and output directory.

Jobs report with riseml.report_result(accuracy=0.93), or by appending a line such as
{"accuracy": 0.93} to $OUTPUT_DIR/riseml-results.jsonl; the last value counts. A result whose name
says loss or error is the better the lower it is, any other the higher; --min and --max say so
otherwise. Those that still run count with what they have reported so far.
"""

import argparse
import os
import sys
from urllib.parse import quote

from riseml.commands import add_json, print_json
from riseml.daemon import connect
from riseml.ranking import criterion, is_lower_better, rank, shown
from riseml.screen import clean, has_colour, paint
from riseml_proto import ids
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Detail, Member


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `riseml best`."""
    parser.add_argument("id", metavar="ID", help="a set, such as 144")
    parser.add_argument("--by", metavar="RESULT", help="go by this result (needed with several)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--min", action="store_true", help="the lowest is the best")
    way.add_argument("--max", action="store_true", help="the highest is the best")
    parser.add_argument("-n", metavar="N", default="1", help="show the best N")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print it, or them."""
    wanted = ids.parse(args.id)
    if wanted.experiment is None or wanted.member is not None:
        raise InvalidInput(f"{args.id} is no experiment with sub-experiments; say one such as 144")
    if not (args.n.isascii() and args.n.isdigit() and int(args.n)):
        raise InvalidInput(f"-n takes a number, 1 or more, not {args.n!r}")
    with connect(args.host) as client:
        name = quote(str(wanted._replace(job=None, number=None)))
        detail = client.get(f"/v1/experiments/{name}?reported=true", Detail)
    by = criterion(detail.experiments, args.by, args.id)
    lowest = args.min or (not args.max and is_lower_better(by))
    best = rank(detail.experiments, by, lowest=lowest)[: int(args.n)]
    if args.json:
        print_json([_plain(detail, member, by, lowest=lowest) for member in best])
        return 0
    colour = has_colour(sys.stdout, os.environ)
    print("\n\n".join(_show(detail, member, by, lowest=lowest, colour=colour) for member in best))
    return 0


def _show(detail: Detail, member: Member, by: str, *, lowest: bool, colour: bool) -> str:
    params = ", ".join(f"{name}={value}" for name, value in member.params.items())
    others = {name: value for name, value in member.results.items() if name != by}
    facts = {
        "ID": member.id,
        "State": paint(member.state) if colour else str(member.state),
        "Params": params,
        by: f"{shown(member.results[by])} ({'lowest' if lowest else 'highest'} is best)",
        **{name: shown(value) for name, value in others.items()},
        "Output": _output(detail, member),
    }
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    return "\n".join(clean(line, colour=colour) for line in lines)


def _plain(detail: Detail, member: Member, by: str, *, lowest: bool) -> dict[str, object]:
    return {
        "id": member.id,
        "state": member.state,
        "by": by,
        "lowest": lowest,
        "params": member.params,
        "results": member.results,
        "output_dir": _output(detail, member),
    }


def _output(detail: Detail, member: Member) -> str:
    number = ids.parse(member.id).member
    return f"{detail.output_dir.rstrip('/')}/{number}" if number else detail.output_dir
