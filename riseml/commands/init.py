"""Write a first `riseml.yml` into this directory.

It runs as it is, and its comments help to change it. An existing `riseml.yml` is left alone unless
`--force` is given.
"""

import argparse
import os
import re
import shutil

from riseml_proto.errors import InvalidInput

_FILE = "riseml.yml"
_LONGEST = 100  # characters of a project's name

_HEAD = """\
# What `riseml train` runs. `riseml train --dry-run` shows the commands without running them.
project: {project}
train:
"""

_SWEEP = """\
  # Every combination of the parameters' values is a sub-experiment. Each value takes the place of
  # {{name}} in `run` and is also an environment variable (LR, EPOCHS).
  run: >-
    echo "training with lr={{lr}} for {{epochs}} epochs"
  parameters:
    lr: [0.001, 0.0001]
    epochs:
      range: {min: 10, max: 20, step: 5}
  # How many of them run at once.
  concurrency: 2
"""

_SCRIPT = """\
  run: PYTHON train.py
  # For a sweep, give it parameters. Every combination of their values is a sub-experiment. Each
  # value takes the place of {{name}} in `run` and is also an environment variable (LR, EPOCHS).
  # run: >-
  #   PYTHON train.py --lr {{lr}} --epochs {{epochs}}
  # parameters:
  #   lr: [0.001, 0.0001]
  #   epochs:
  #     range: {min: 10, max: 20, step: 5}
  # How many of them run at once.
  # concurrency: 2
"""

_TAIL = """\
  # What each of them is guaranteed; it starts when that is free.
  # resources:
  #   cpus: 2
  #   mem: 4GiB
  #   gpus: 1
  # How long each may take, and how often it is started again if it fails.
  # time_limit: 2h
  # retries: 1
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="overwrite a riseml.yml")


def run(args: argparse.Namespace) -> int:
    project = project_name(os.path.basename(os.getcwd()))
    script = os.path.isfile("train.py")
    try:
        with open(_FILE, "w" if args.force else "x", encoding="utf-8") as file:
            python = "python" if shutil.which("python") else "python3"
            file.write(first_config(project, script=script, python=python))
    except FileExistsError:
        raise InvalidInput(
            f"there is a {_FILE} already; riseml init --force overwrites it"
        ) from None
    print(f"Wrote {_FILE} for the project {project}.")
    print(
        f"Put your own command in its `run`{' and parameters beside it' if script else ''}, then:"
    )
    print("  riseml train --dry-run   shows what would be run")
    print("  riseml train             runs it")
    return 0


def first_config(project: str, *, script: bool, python: str) -> str:
    """A riseml.yml that runs train.py with `python`, or an echo where there is no such `script`."""
    body = _SCRIPT.replace("PYTHON", python) if script else _SWEEP
    return _HEAD.format(project=project) + body + _TAIL


def project_name(directory: str) -> str:
    """A valid project name, as close to the name of the directory as can be."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", directory).strip(".-")
    return name[:_LONGEST] or "project"
