"""The words that can complete a command line.

Commands, options and their help come from the parsers of the commands. IDs, results and files come
from the daemon, if one runs and answers at once. No daemon is started, and nobody is asked for a password.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

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
_SCHEMES = [Candidate("output://", "what experiments wrote"), Candidate("data://", "data")]


class Answers(Protocol):
    """What the daemon at `host` (None: the usual one) knows of a line that is being typed."""

    def ids(self, command: str, host: str | None, typed: str) -> Iterator[Candidate]:
        """IDs for the command that may complete what was `typed`."""

    def names(self, host: str | None, experiment: str, *, params: bool) -> Iterator[Candidate]:
        """Names of results of an experiment; with `params`, of its parameters, too."""

    def files(self, host: str | None, typed: str) -> Iterator[Candidate]:
        """URIs that may complete the one that was `typed`; those of directories end with `/`."""


def candidates(words: Sequence[str], answers: Answers) -> list[Candidate]:
    """The candidates for the last of `words`, which were typed after `riseml`; it may be empty."""
    host, rest = _leading_options(words)
    if not rest:
        return []
    name, *typed = rest
    if not typed or name == "help":
        offers: Iterable[Candidate] = _OPTIONS if name.startswith("-") else _COMMANDS
    elif any(name == command.name for command in COMMANDS):
        offers = _arguments(name, typed, host, answers)
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


def _arguments(
    name: str, typed: Sequence[str], host: str | None, answers: Answers
) -> Iterator[Candidate]:
    """The candidates for the last of the words `typed` after the command `name`."""
    parser, _ = parsing.build(name)
    actions = parser._actions  # argparse has no public way to its arguments, and keeps this one
    *before, current = typed
    options = {text: action for action in actions for text in action.option_strings}
    waiting, given, positional = None, set(), list[str]()
    for word in before:
        if waiting:
            host = word if waiting.dest == "host" else host
            waiting = None
        elif action := options.get(word.partition("=")[0]):
            given.add(action.dest)
            waiting = action if action.nargs is None and "=" not in word else None
        else:
            positional.append(word)
    option, equals, _ = current.partition("=")
    if waiting:
        yield from _option_values(waiting, host, positional, answers)
    elif equals and option in options:
        for one in _option_values(options[option], host, positional, answers):
            if one.word != FILES:  # shells cannot list files behind a =
                yield Candidate(f"{option}={one.word}", one.help)
    elif current.startswith("-"):
        for text, action in options.items():
            if action.dest not in given and (text.startswith("--") or current == "-"):
                yield Candidate(text, (action.help or "").partition(";")[0])
    else:
        wanted = _positional(actions, len(positional))
        if wanted and wanted.metavar == "ID":
            yield from answers.ids(name, host, current)
        elif wanted and wanted.metavar in ("URI", "SRC", "DST"):
            yield from _places(wanted.metavar != "URI", host, current, answers)
        elif wanted:
            yield from _values(wanted)


def _option_values(
    option: argparse.Action, host: str | None, positional: Sequence[str], answers: Answers
) -> Iterator[Candidate]:
    """The values that `option` may have beside the arguments `positional`."""
    if option.dest in ("sort", "by") and positional:
        yield from answers.names(host, positional[0], params=option.dest == "sort")
    else:
        yield from _values(option)


def _places(local: bool, host: str | None, current: str, answers: Answers) -> Iterator[Candidate]:
    """URIs, and with `local` files of this machine, too."""
    if current.startswith(tuple(scheme.word for scheme in _SCHEMES)):
        yield from answers.files(host, current)
    else:
        yield from _SCHEMES
        if local:
            yield Candidate(FILES)


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
