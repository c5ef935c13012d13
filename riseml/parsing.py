"""The parser of one command: what its module says, and what every command takes."""

import argparse
import importlib
from collections.abc import Callable
from typing import NoReturn

from riseml_proto.errors import InvalidInput

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise `InvalidInput`."""
        raise InvalidInput(f"{message}; {self.prog} --help tells what it takes")


def build(name: str) -> tuple[Parser, Run]:
    """The parser of the command `name`, and what runs it with the arguments that were parsed."""
    module = importlib.import_module(f"riseml.commands.{name}")
    parser = Parser(
        prog=f"riseml {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    parser.add_argument(
        "--host",
        metavar="URL",
        help="the daemon: ssh://[user@]host[:port] or unix:///path/of/its/socket "
        "(default: $RISEML_HOST, or this machine's)",
    )
    run: Run = module.run
    return parser, run
