"""End experiments, sub-experiments or jobs with all their processes, and wait until they are gone.

Without an ID: the last experiment of the project in `./riseml.yml`, or your last one where there is no
such file. Where one sub-experiment is killed its set goes on. Where one of the IDs is wrong, nothing is
killed.

    $ riseml kill 138 139
    killed experiment 138
    experiment 139 has already ended

Each job's main program gets SIGTERM, the rest of the job when that has ended; what is left after
`kill_grace` (10 seconds, unless riseml.yml or the daemon is set otherwise) gets SIGKILL. Ctrl+C ends
the waiting, not the kill.

`--json` prints one object with `killed` and `ended`, the IDs as they were given.
"""

import argparse
import sys

from riseml.commands import add_ids, add_json, current_project, show
from riseml.transport.daemon import connect
from riseml_proto.messages import Kill, Killed


def configure(parser: argparse.ArgumentParser) -> None:
    add_ids(parser, "*", "such as 144 or 144.2")
    parser.add_argument(
        "-f", "--force", action="store_true", help="SIGKILL at once, without time to clean up"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    project = None if args.ids else current_project()
    with connect(args.host) as client:
        request = Kill(ids=args.ids, project=project, force=args.force)
        try:
            answer = client.post("/v1/kill", request, Killed, patient=True)
        except KeyboardInterrupt:
            print("\nriseml: the kill goes on; riseml status shows how far it is", file=sys.stderr)
            return 130
    lines = [f"killed experiment {killed}" for killed in answer.killed]
    lines += [f"experiment {ended} has already ended" for ended in answer.ended]
    return show(args, answer, lines)
