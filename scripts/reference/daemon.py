"""The flags and settings of `rised` as Markdown, from its parser."""

import argparse
import re

import msgspec

from rised.__main__ import parser
from rised.settings import Settings
from scripts.reference.commands import arguments, link, names, table

_QUOTAS = (
    "`quotas`",
    "who may take how much, see [quotas](#quotas); in the file alone",
    "no bounds",
)


def settings() -> str:
    """What may stand in the configuration file: the flags that are keys of it, too."""
    keys = {field.name for field in msgspec.structs.fields(Settings)}
    rows = [_setting(action, text) for action, text in arguments(parser()) if action.dest in keys]
    return table(("key and flag", "meaning", "default"), [*rows, _QUOTAS])


def options() -> str:
    """All flags."""
    rows = [(f"`{names(action)}`", link(text)) for action, text in arguments(parser())]
    return table(("option", "meaning"), rows)


def description() -> str:
    """What `rised` is."""
    return parser().description or ""


def _setting(action: argparse.Action, text: str) -> tuple[str, str, str]:
    """A row of the table; a help text ends with the default, in parentheses."""
    meaning, default = re.fullmatch(r"(.*?)(?: \(([^()]*)\))?", text).groups()  # type: ignore[union-attr] # matches all
    return f"`{action.option_strings[0].lstrip('-')}`", link(meaning), default or ""
