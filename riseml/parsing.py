"""The parser of one command: the arguments of its module, and those of every command.

The first paragraph of a command's docstring stands before its options, the others stand after them.
docs/cli.md and the man page are made of the same parsers.
"""

import argparse
import importlib
from collections.abc import Callable
from typing import Any, NoReturn

from riseml_proto.errors import InvalidInput

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are `RisemlError`s, so that they look like every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise `InvalidInput`."""
        raise InvalidInput(f"{message}; {self.prog} --help tells what it takes")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse's own hides that it cannot be written

    def format_help(self) -> str:
        """Format the help for a screen of 80 columns; indented paragraphs stay as they are.

        The backticks are for Markdown.
        """
        import textwrap  # only help needs it

        def wrap(text: str | None) -> str:
            paragraphs = (text or "").strip("\n").split("\n\n")
            return "\n\n".join(
                p if p[:1] == " " else textwrap.fill(p, 79, break_on_hyphens=False)
                for p in paragraphs
            )

        self.description, self.epilog = wrap(self.description), wrap(self.epilog)
        return super().format_help().replace("`", "")


def build(name: str) -> tuple[Parser, Run]:
    """The parser of the command `name`, and its `run` function."""
    module = importlib.import_module(f"riseml.commands.{name}")
    summary, _, details = (module.__doc__ or "").partition("\n\n")
    parser = Parser(
        prog=f"riseml {name}",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    parser.add_argument(
        "--host",
        metavar="URL",
        help="the daemon: ssh://[user@]host[:port] or unix:///path/of/its/socket "
        "(default: $RISEML_HOST, or config.yml's host, or this machine's)",
    )
    run: Run = module.run
    return parser, run
