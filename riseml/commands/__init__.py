"""The commands: which there are, and what several of them need.

Each command is a module of its name in this package, imported only when it is the one that was
typed. It has `configure(parser)`, which adds its arguments to an `argparse.ArgumentParser`, and
`run(args) -> int`, which does it and gives the exit code. `args.host` is there for all of them.
Errors are raised as `RisemlError`.
"""

import argparse
import sys
from typing import Any, NamedTuple


class Command(NamedTuple):
    """One line of `riseml --help`."""

    name: str
    summary: str


COMMANDS = (
    Command("init", "write a first riseml.yml"),
    Command("train", "run the experiment that riseml.yml describes, and follow it"),
    Command("status", "show experiments and where they stand"),
    Command("best", "show the best sub-experiment, by what it reported"),
    Command("logs", "show the states and the output of an experiment"),
    Command("monitor", "show what running experiments use: CPUs, memory, GPUs"),
    Command("tensorboard", "open a TensorBoard over experiments, past ones too"),
    Command("kill", "end experiments or sub-experiments"),
    Command("ls", "list files in an output directory or in the data directory"),
    Command("cp", "copy files to and from there"),
    Command("rm", "remove files there"),
    Command("system", "show the machine and what of it is handed out, tidy it up"),
    Command("whoami", "show who the daemon takes you for"),
)


def current_project() -> str | None:
    """The `project:` of ./riseml.yml, or None where there is no such file. Raises `ConfigError`."""
    try:
        with open("riseml.yml", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    from riseml_proto.config import parse_config

    return parse_config(text, "riseml.yml").project


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def print_json(value: Any) -> None:
    """Print plain data or messages as indented JSON."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
