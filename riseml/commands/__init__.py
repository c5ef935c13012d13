"""The list of commands, and what several of them need.

A command is a module of its name in this package. It is imported only when it was typed. Its
docstring is its help. `configure(parser)` adds its arguments; `args.host` is added for every
command. `run(args)` does the work and returns the exit code. Errors are raised as `RisemlError`.

`status_view`, `results_view`, `usage_view` and `dry_run` are no commands: they hold what one or two
commands show.
"""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from riseml_proto import ids

if TYPE_CHECKING:
    from riseml_proto.messages import Change


class Command(NamedTuple):
    """A command and its line in `riseml --help`."""

    name: str
    summary: str


HIDDEN = ("pipe", "complete")
"""Commands that programs call: ssh on the other machine, and shells. The help does not list them."""

COMMANDS = (
    Command("init", "write a first riseml.yml"),
    Command("train", "run the experiment that riseml.yml describes, and follow it"),
    Command("status", "show experiments and where they stand"),
    Command("best", "show the best sub-experiment, by what it reported"),
    Command("logs", "show the states and the output of an experiment"),
    Command("monitor", "show what running experiments use: CPUs, memory, GPUs"),
    Command("tensorboard", "open a TensorBoard over experiments, past ones too"),
    Command("ls", "list what jobs have written, and data"),
    Command("cp", "copy files between this machine and where jobs read and write"),
    Command("rm", "remove what jobs have written, or data"),
    Command("kill", "end experiments or sub-experiments"),
    Command("queue", "show what waits, in which order, and when it is expected to start"),
    Command("set", "change an experiment's priority, or how many of a set run at once"),
    Command("pause", "start no more of an experiment; what runs goes on"),
    Command("resume", "let a paused experiment go on"),
    Command("system", "show the machine, tidy it up, let nothing new start"),
    Command("whoami", "show who the daemon takes you for"),
    Command("completion", "print what lets bash, zsh or fish complete commands and IDs"),
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


def _priority(text: str) -> int:
    """The value of `--priority`, from -100 to 100. Raises `ArgumentTypeError`, as argparse wants it."""
    try:
        number = int(text)
    except ValueError:
        number = 1000
    if not -100 <= number <= 100:
        raise argparse.ArgumentTypeError(f"must be a whole number from -100 to 100, not {text!r}")
    return number


def change(args: argparse.Namespace, request: "Change", text: str) -> int:
    """Send `request` and print for each experiment `text`, such as `paused experiment {}`."""
    from riseml.transport.daemon import connect
    from riseml_proto.messages import Changed

    with connect(args.host) as client:
        changed = client.post("/v1/change", request, Changed).experiments
    return show(args, changed, (text.format(one.id, standing=one) for one in changed))


def add_ids(parser: argparse.ArgumentParser, nargs: str, text: str = "such as 144") -> None:
    """Add the argument `ID`, once or several times; parsing it raises `InvalidId`."""
    name = "id" if nargs == "?" else "ids"
    parser.add_argument(name, nargs=nargs, metavar="ID", type=_checked_id, help=text)


def _checked_id(text: str) -> str:
    ids.parse(text)
    return text


def add_json(parser: argparse.ArgumentParser, text: str = "print JSON, for programs") -> None:
    parser.add_argument("--json", action="store_true", help=text)


def add_priority(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    shown = "" if default is None else f" ({default})"
    text = f"among your own, from -100 to 100; the highest goes first{shown}"
    parser.add_argument("--priority", type=_priority, default=default, metavar="N", help=text)


def print_json(value: Any, *, indent: int = 2) -> None:
    """Print plain data or messages as JSON; on one line where `indent` is -1."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=indent)
    print(text.decode(), flush=True)


def show(args: argparse.Namespace, value: Any, lines: Iterable[str]) -> int:
    """Print `lines` for people, or `value` with `--json`, and return the exit code 0."""
    if args.json:
        print_json(value)
    else:
        for line in lines:
            print(line)
    return 0
