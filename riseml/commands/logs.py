"""Show the last known states of an experiment, then its output in order.

Without an ID: the last experiment of the project in `./riseml.yml`, or your last one where there is no
such file. Each line has the ID of the experiment or job, the time in UTC, and the text.

    $ riseml logs 144.2
    144.2           | [2017-08-30T10:03:55Z] --> FINISHED
    144.2           | [2017-08-30T10:03:55Z] Reason: COMPLETED
    144.2           | [2017-08-30T10:03:55Z] Exit Code: 0
    144.2.train     | [2017-08-30T09:59:12Z] epoch 1: loss 0.41

With `-f`, new output and new states follow as they come. If the daemon is restarted meanwhile, it is
waited for, up to 30 seconds, and no line is shown twice or left out.

Of a line that overwrites itself with `\\r`, such as a progress bar, its last form is shown, and of
several bars below each other one line each. On a terminal they are drawn at the bottom while they grow,
and escape sequences in a job's output other than colours are left out, so that a job cannot move the
cursor or retitle the window. `NO_COLOR` turns colours off.

The exit code is 0 when the log was read to its end, whatever the job's own was.
"""

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from functools import partial

from riseml.commands import add_ids, add_json, current_project
from riseml.follow import entries, follow
from riseml.screen import notice
from riseml.transport.daemon import connect
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import LogRequest, Whoami

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def configure(parser: argparse.ArgumentParser) -> None:
    add_ids(parser, "?", "such as 144, 144.2 or 144.2.train")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")
    parser.add_argument("-n", "--tail", metavar="N", help="only the last N lines of output")
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="only what is newer: 30s, 10m, 2h, 1d, or a time such as 2017-08-30T09:59:06Z "
        "(UTC unless it names a zone)",
    )
    parser.add_argument(
        "--raw", action="store_true", help="the bytes of one job's log, exactly as it wrote them"
    )
    add_json(parser, "print JSON, one entry a line, for programs")


def run(args: argparse.Namespace) -> int:
    connector = partial(connect, args.host)
    since = parse_since(args.since)
    if isinstance(since, timedelta):
        with connector() as client:
            client.get("/v1/whoami", Whoami)
            since = client.now - since  # this machine's clock may be hours off
    request = LogRequest(
        id=args.id,
        project=current_project() if args.id is None else None,
        follow=args.follow,
        tail=parse_count(args.tail),
        since=since,
        raw=args.raw,
    )
    out = sys.stdout.buffer
    if args.raw:
        with connector() as client:
            for data in client.raw("/v1/logs", request):
                out.write(data)
                out.flush()
    elif args.json:
        for line, _ in entries(connector, request, notice):
            out.write(line + b"\n")
            out.flush()
    else:
        follow(connector, request)
    return 0


def parse_count(text: str | None) -> int | None:
    """The number after `-n`. Raises `InvalidInput`."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"-n takes a number of lines, not {text!r}")
    return int(text)


def parse_since(text: str | None) -> datetime | timedelta | None:
    """The time of `--since`, RFC 3339, or how long it is ago. Raises `InvalidInput`."""
    if text is None:
        return None
    try:
        if ago := re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII):
            duration = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            _ = datetime.now(UTC) - duration  # no calendar goes back any number of days
            return duration
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            "--since takes a duration such as 30s, 10m, 2h or 1d, "
            f"or a time such as 2017-08-30T09:59:06Z, not {text!r}"
        ) from None
