"""The output of `riseml train --dry-run`: each sub-experiment and the commands that it would run.

It is written line by line, so that the output of a grid of a billion begins at once and can be
stopped at any time.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TextIO

import msgspec

from riseml.progress import plural
from riseml.screen import clean
from riseml_proto.config import Config
from riseml_proto.placeholders import render

MOST = 1000
"""Sub-experiments in the output for people. The output for programs has all of them."""


class Planned(msgspec.Struct):
    """One sub-experiment; `number` is 0 for an experiment without parameters."""

    number: int
    params: dict[str, str]
    run: list[str]


def planned(config: Config) -> Iterator[Planned]:
    """Every sub-experiment of `config`, in the order in which they start."""
    for number in range(1, config.count + 1) if config.count else (0,):
        params = config.parameters.params(number)
        yield Planned(number, params, [render(command, params) for command in config.run])


def show(config: Config, out: TextIO) -> None:
    """Write the dry run of `config` for people."""
    for line in _lines(config):
        out.write((clean(line, colour=False) if out.isatty() else line) + "\n")


def show_json(config: Config, out: TextIO) -> None:
    """Write the dry run of `config` as one list of JSON, an element a line."""
    separator = "[\n"
    for element in planned(config):
        out.write(separator + msgspec.json.encode(element).decode())
        separator = ",\n"
    out.write("\n]\n")


def _lines(config: Config) -> Iterator[str]:
    summary = "1 experiment"
    if config.count:
        summary = f"{plural(config.count, 'sub-experiment')}, {config.concurrency} at a time"
    yield f"{config.project}: {summary}"
    width = len(str(min(config.count, MOST)))
    for element in islice(planned(config), MOST):
        if element.number:
            params = ", ".join(f"{name}={value}" for name, value in element.params.items())
            yield f"{element.number:>{width}}  {params}"
        for command in element.run:
            for line in command.splitlines():
                yield f"{'':{width}}  {line}"
    if config.count > MOST:
        yield f"… and {config.count - MOST:,} more; --json lists all of them"
