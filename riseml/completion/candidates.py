"""The words that can complete a command line.

Commands, options and their help come from the parsers of the commands. IDs come from the daemon, if
one runs and answers at once. No daemon is started, and nobody is asked for a password.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from riseml import parsing
from riseml.commands import COMMANDS

FILES = ":files"
"""A word that tells the shell to list files."""


class Candidate(NamedTuple):
    """A word that can stand there, and its meaning."""

    word: str
    help: str = ""


_COMMANDS = [Candidate(*command) for command in COMMANDS]
_OPTIONS = [
    Candidate("--host", "the daemon"),
    Candidate("--help", "list the commands"),
    Candidate("--version", "show the version and exit"),
]
Ids = Callable[[str, str | None, str], Iterator[Candidate]]
"""Given a command, a host (None: the usual one) and the text typed so far: IDs that may complete it."""


def candidates(words: Sequence[str], ids: Ids) -> list[Candidate]:
    """The candidates for the last of `words`, which were typed after `riseml`; it may be empty."""
    host, rest = _leading_options(words)
    if not rest:
        return []
    name, *typed = rest
    if not typed or name == "help":
        offers: Iterable[Candidate] = _OPTIONS if name.startswith("-") else _COMMANDS
    elif any(name == command.name for command in COMMANDS):
        offers = _arguments(name, typed, host, ids)
    else:
        return []
    return [one for one in offers if one.word == FILES or one.word.startswith(words[-1])]


def _leading_options(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The host named before the command, and the words from the command on."""
    host = None
    while len(words) > 1 and words[0].startswith("-"):
        if words[0] == "--host":
            host, words = words[1], words[2:]
        else:
            if words[0].startswith("--host="):
                host = words[0].partition("=")[2]
            words = words[1:]
    return host, words


def _arguments(name: str, typed: Sequence[str], host: str | None, ids: Ids) -> Iterator[Candidate]:
    """The candidates for the last of the words `typed` after the command `name`."""
    parser, _ = parsing.build(name)
    actions = parser._actions  # argparse has no public way to its arguments, and keeps this one
    *before, current = typed
    options = {text: action for action in actions for text in action.option_strings}
    waiting, given, positional = None, set(), 0
    for word in before:
        if waiting:
            host = word if waiting.dest == "host" else host
            waiting = None
        elif action := options.get(word.partition("=")[0]):
            given.add(action.dest)
            waiting = action if action.nargs is None and "=" not in word else None
        else:
            positional += 1
    if waiting:
        yield from _values(waiting)
    elif current.startswith("-"):
        for text, action in options.items():
            if action.dest not in given and (text.startswith("--") or current == "-"):
                yield Candidate(text, (action.help or "").partition(";")[0])
    else:
        wanted = _positional(actions, positional)
        if wanted and wanted.metavar == "ID":
            yield from ids(name, host, current)
        elif wanted:
            yield from _values(wanted)


def _positional(actions: Sequence[argparse.Action], number: int) -> argparse.Action | None:
    """The positional argument number `number`, counted from 0; None where there is none."""
    arguments = [action for action in actions if not action.option_strings]
    last = arguments[-1] if arguments and arguments[-1].nargs in ("*", "+") else None
    return arguments[number] if number < len(arguments) else last


def _values(action: argparse.Action) -> Iterator[Candidate]:
    if action.dest == "file":
        yield Candidate(FILES)
    for choice in action.choices or ():
        yield Candidate(str(choice))
