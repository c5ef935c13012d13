"""The commands of `riseml` as Markdown, from their parsers. Help texts are checked on the way."""

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator

from riseml import parsing
from riseml.commands import COMMANDS

_WIDTH = 120
_EVERYWHERE = ("help", "host")
"""What every command takes is told once, above them."""


class NoHelp(Exception):
    """A command or an option says nothing of itself: give it a docstring, or `help=`."""


def summary() -> str:
    """The commands with a line for each."""
    rows = ((f"[`{name}`](#riseml-{name})", text) for name, text in COMMANDS)
    return table(("command", "what it does"), rows)


def sections() -> str:
    """A section for each command."""
    return "\n\n".join(section(parsing.build(command.name)[0]) for command in COMMANDS)


def section(parser: argparse.ArgumentParser) -> str:
    """What one command does and takes. Raises `NoHelp`."""
    if not parser.description:
        raise NoHelp(parser.prog)
    rows = [(f"`{names(action)}`", link(text, parser.prog)) for action, text in arguments(parser)]
    parts = [
        f"### {parser.prog}",
        f"```\n{usage(parser)}\n```",
        prose(parser.description, parser.prog),
        table(("option", "meaning"), rows) if rows else "",
        prose(parser.epilog or "", parser.prog),
    ]
    return "\n\n".join(part for part in parts if part)


def arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, str]]:
    """The arguments of a command, but for those of every command, with their texts. Raises `NoHelp`."""
    for (
        action
    ) in parser._actions:  # argparse has no public way to its arguments, and keeps this one
        if action.dest in _EVERYWHERE:
            continue
        if not action.help:
            raise NoHelp(f"{parser.prog}: {names(action)}")
        yield action, action.help.replace("%%", "%")


def names(action: argparse.Action) -> str:
    """How an argument is typed: `-f FILE, --file FILE`."""
    if not action.option_strings:
        return _value(action)
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(f"{option}{value}" for option in action.option_strings)


def usage(parser: argparse.ArgumentParser) -> str:
    """The command with all that it takes, on lines that fit into a man page."""
    exclusive = {
        action: group._group_actions
        for group in parser._mutually_exclusive_groups
        for action in group._group_actions
    }
    words, options = [], []
    for action, _ in arguments(parser):
        if not action.option_strings:
            words.append(_positional(action))
        elif action in exclusive:
            if action is exclusive[action][0]:
                options.append(f"[{' | '.join(map(_short, exclusive[action]))}]")
        else:
            options.append(f"[{_short(action)}]")
    indent = " " * (len(parser.prog) + 1)
    unbroken = [word.replace(" ", "\0") for word in (*words, *options)]
    line = " ".join((parser.prog, *unbroken))
    lines = textwrap.wrap(line, 68, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def prose(text: str, prog: str = "") -> str:
    """A docstring's paragraphs as Markdown: what is indented is an example, commands are links."""
    parts: list[str] = []
    for paragraph in text.strip("\n").split("\n\n"):
        if not paragraph.startswith("    "):
            filled = textwrap.fill(
                link(paragraph, prog), _WIDTH, break_on_hyphens=False, break_long_words=False
            )
            parts.append(filled)
            continue
        example = textwrap.dedent(paragraph)
        if parts and parts[-1].endswith("```") and "\n" in parts[-1]:
            parts[-1] = f"{parts[-1][:-4]}\n\n{example}\n```"  # one with an empty line in it
        else:
            parts.append(f"```{'console' if example.startswith('$ ') else ''}\n{example}\n```")
    return "\n\n".join(parts)


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(titles)]
    lines += [
        ["---"] * len(lines[0]),
        *([cell.replace("|", r"\|") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def link(text: str, prog: str = "") -> str:
    """Make links of pages beside this one, of report_result, and of commands other than `prog`."""

    def command(match: re.Match[str]) -> str:
        name = f"riseml {match[1]}"
        known = any(match[1] == one.name for one in COMMANDS)
        return f"[{match[0]}](#riseml-{match[1]})" if known and name != prog else match[0]

    text = re.sub(r"`riseml ([a-z]+)`", command, text)
    text = re.sub(r"`riseml\.report_result[^`]*`", r"[\g<0>](#in-a-job-report_result)", text)
    return re.sub(r"\bdocs/([a-z-]+\.md)((?:#[a-z-]+)?)", r"[\1](\1\2)", text)


def _short(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return f"{action.option_strings[0]}{value}"


def _positional(action: argparse.Action) -> str:
    name = _value(action)
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}.get(
        str(action.nargs), name
    )


def _value(action: argparse.Action) -> str:
    if action.metavar:
        return str(action.metavar)
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
