"""`python -m rised.tensorboard`: serve the real TensorBoard over output directories until it is ended."""

import argparse
import os
import select
import sys

from rised.tensorboard.logdir import ExperimentRuns
from rised.tensorboard.server import serve

_REFRESH_SECONDS = 1.0
"""Between two looks at the outputs. TensorBoard itself reads its directory every five seconds."""


def main() -> None:
    """Make the directory, serve, and write the URL into its file `url` once it can be reached."""
    parser = argparse.ArgumentParser("python -m rised.tensorboard")
    parser.add_argument("--directory", required=True, help="for what is made here")
    parser.add_argument("--end-with", type=int, metavar="PID", help="end when this process does")
    parser.add_argument("runs", nargs="+", metavar="144=DIR", help="an experiment and its output")
    args = parser.parse_args()
    pidfds = [os.pidfd_open(args.end_with)] if args.end_with else []
    logdir = os.path.join(args.directory, "logs")
    os.makedirs(logdir, exist_ok=True)
    experiments = [
        ExperimentRuns(name, output, logdir)
        for name, _, output in (run.partition("=") for run in args.runs)
    ]
    for experiment in experiments:
        experiment.refresh()
    url = serve(logdir, title=", ".join(experiment.name for experiment in experiments))
    path = os.path.join(args.directory, "url")
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(url)
    os.rename(path + ".new", path)
    print(f"TensorBoard at {url}", flush=True)
    while not select.select(pidfds, [], [], _REFRESH_SECONDS)[0]:
        for experiment in experiments:
            experiment.refresh()
    sys.exit(0)


if __name__ == "__main__":
    main()
