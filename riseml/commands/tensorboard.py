"""Open a TensorBoard over experiments or sub-experiments, running or long ended, several side by side.

It prints its URL and is there until Ctrl+C. Its runs are named as the sub-experiments are, and their
parameters and results are in its HPARAMS tab. Without an ID: the last experiment of the project in
`./riseml.yml`, or your last one where there is no such file.

`tensorboard: true` in `riseml.yml` starts one with the experiment; `riseml status ID` shows its URL.
"""

import argparse
from contextlib import ExitStack

from riseml.commands import add_ids, add_json, current_project, print_json
from riseml.transport.daemon import connect
from riseml_proto.errors import DaemonError
from riseml_proto.messages import Board, BoardRequest


def configure(parser: argparse.ArgumentParser) -> None:
    add_ids(parser, "*", "such as 144 or 144.2")
    add_json(parser, "print JSON, a line with the URL, for programs")


def run(args: argparse.Namespace) -> int:
    import msgspec

    request = BoardRequest(ids=args.ids, project=None if args.ids else current_project())
    with connect(args.host) as client, ExitStack() as stack:
        for line in client.stream("/v1/tensorboard", request):
            board = msgspec.json.decode(line, type=Board)
            if board.ended:
                raise DaemonError(f"TensorBoard has ended by itself ({board.ended})")
            url = board.url
            stack.callback(client.endpoint.drop, url)
            here = client.endpoint.bring(url)
            if args.json:
                print_json(Board(url=here or url), indent=-1)
            else:
                shown = here or f"{url} {client.endpoint.where}"
                print(f"TensorBoard at {shown} (Ctrl+C ends it)", flush=True)
        raise DaemonError("TensorBoard has ended by itself")
