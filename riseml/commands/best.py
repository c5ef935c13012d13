"""Show the best sub-experiment of a set by what it reported, and by which result that is.

    $ riseml best 144 --by accuracy
    ID: 144.6
    State: FINISHED
    Best: highest accuracy of 8 that reported it, by the last value of each
    Params: epochs=30, lr=0.0001, lr-decay=1e-7
    Results: accuracy=0.94, loss=0.18
    Output: /home/paul/riseml-output/paul/ai-toaster/144/6

Jobs report with `riseml.report_result(accuracy=0.93)`, or by appending a line such as
`{"accuracy": 0.93}` to `$OUTPUT_DIR/riseml-results.jsonl`. The last value of each result counts, or with
`--history` the best that was reported on the way.

`objective` in riseml.yml says which result counts, and whether low or high values are better. Without it
the name of the result does: `val_loss`, `testError`, `wer` are the better the lower, `accuracy`, `f1`,
`reward` the higher. Where the name does not say, `--min` or `--max` has to.

NaN, the infinities, texts and truth values never win, and of equal ones the earlier does.
Sub-experiments that still run count with what they have reported so far; those that failed or were
killed count with `--failed` alone.

`--json` prints a list of objects with `id`, `state`, `by`, `lowest` (whether the lowest is the best),
`value` (what counted), `history`, `params`, `results` and `output_dir`.
"""

import argparse
import os
import sys
from urllib.parse import quote

from riseml.commands import add_json, show
from riseml.commands.results_view import show_params, show_results, shown
from riseml.screen import clean, has_colour, paint
from riseml.transport.daemon import connect
from riseml_proto import ids
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Best, Member


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="a set, such as 144")
    parser.add_argument(
        "--by",
        metavar="RESULT",
        help="go by this result; needed where several were reported and riseml.yml has no objective",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--min", action="store_true", help="the lowest is the best, whatever the name says"
    )
    way.add_argument(
        "--max", action="store_true", help="the highest is the best, whatever the name says"
    )
    parser.add_argument(
        "--history", action="store_true", help="go by the best value of each, not by its last"
    )
    parser.add_argument(
        "--failed", action="store_true", help="let those win, too, that failed or were killed"
    )
    parser.add_argument("-n", metavar="N", default="1", help="show the best N, the best first (1)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    whole = (each for each in ids.readings(args.id) if each.experiment and each.member is None)
    if (wanted := next(whole, None)) is None:
        raise InvalidInput(f"{args.id} is no experiment with sub-experiments; say one such as 144")
    query: dict[str, object] = {"limit": _count(args.n)}
    if args.by is not None:
        query["by"] = args.by
    if args.min or args.max:
        query["lowest"] = "true" if args.min else "false"
    for flag in ("history", "failed"):
        if getattr(args, flag):
            query[flag] = "true"
    name = quote(str(wanted._replace(job=None, number=None)))
    with connect(args.host) as client:
        best = client.get(f"/v1/experiments/{name}/best", Best, query)
    colour = has_colour(sys.stdout, os.environ)
    found = [*zip(best.experiments, best.values, strict=False)]
    text = "\n\n".join(_text(best, *each, colour=colour) for each in found)
    return show(args, [_plain(best, *each) for each in found], [text])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise InvalidInput(f"-n takes a number, 1 or more, not {text!r}")
    return int(text)


def _text(best: Best, member: Member, value: float, *, colour: bool) -> str:
    which = "best" if best.history else "last"
    of = (
        f" of {best.reported:,} that reported it, by the {which} value of each"
        if best.count
        else ""
    )
    facts = {
        "ID": member.id,
        "State": paint(member.state, colour=colour),
        "Best": f"{'lowest' if best.lowest else 'highest'} {best.by}{of}",
        "Params": show_params(member.params),
        "Reached": clean(f"{best.by}={shown(value)}", colour=False) if best.history else "",
        "Results": show_results(member),
        "Output": _output(best, member),
    }
    lines = [f"{name}: {value}" for name, value in facts.items() if value]
    return "\n".join(clean(line, colour=colour) for line in lines)


def _plain(best: Best, member: Member, value: float) -> dict[str, object]:
    return {
        "id": member.id,
        "state": member.state,
        "by": best.by,
        "lowest": best.lowest,
        "value": value,
        "history": best.history,
        "params": member.params,
        "results": member.results,
        "output_dir": _output(best, member),
    }


def _output(best: Best, member: Member) -> str:
    number = ids.parse(member.id).member
    return f"{best.output_dir.rstrip('/')}/{number}" if number else best.output_dir
