"""The flags and settings of `rised` as Markdown, from its parser and its table of settings."""

from rised.__main__ import parser
from rised.settings import TABLE
from scripts.reference.commands import arguments, link, names, table


def settings() -> str:
    """All settings: keys of the configuration file, and flags."""
    rows = ((f"`{key}`", link(each.help), each.default) for key, each in TABLE.items())
    return table(("key and flag", "meaning", "default"), rows)


def options() -> str:
    """All flags."""
    rows = [(f"`{names(action)}`", link(text)) for action, text in arguments(parser())]
    return table(("option", "meaning"), rows)


def description() -> str:
    """What `rised` is."""
    return parser().description or ""
