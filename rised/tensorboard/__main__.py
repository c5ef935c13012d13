"""`python -m rised.tensorboard`: serve the real TensorBoard over output directories until told to end."""

import argparse
import os
import select
import sys

from rised.tensorboard.logdir import Mirror
from rised.tensorboard.server import serve

_SECONDS = 1.0
"""Between two looks at the outputs. TensorBoard itself looks at what it shows every five."""


def main() -> None:
    """Serve. The directory is made, and the URL written into its file `url` once it can be reached."""
    parser = argparse.ArgumentParser("python -m rised.tensorboard")
    parser.add_argument("--directory", required=True, help="for what is made here")
    parser.add_argument("--alive-with", type=int, metavar="PID", help="end when this process does")
    parser.add_argument("runs", nargs="+", metavar="144=DIR", help="an experiment and its output")
    args = parser.parse_args()
    guard = [os.pidfd_open(args.alive_with)] if args.alive_with else []
    logs = os.path.join(args.directory, "logs")
    os.makedirs(logs, exist_ok=True)
    mirrors = [
        Mirror(name, place, logs) for name, _, place in (r.partition("=") for r in args.runs)
    ]
    for mirror in mirrors:
        mirror.refresh()
    url = serve(logs, title=", ".join(mirror.name for mirror in mirrors))
    path = os.path.join(args.directory, "url")
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(url)
    os.rename(path + ".new", path)
    print(f"TensorBoard at {url}", flush=True)
    while not select.select(guard, [], [], _SECONDS)[0]:
        for mirror in mirrors:
            mirror.refresh()
    sys.exit(0)


if __name__ == "__main__":
    main()
