"""`{{name}}` in a command, and the environment variable that each parameter also is.

A value goes into the command as text, in one pass: it is not quoted for the shell, and what looks
like a placeholder inside a value stays as it is.
"""

import re
from collections.abc import Mapping

PLACEHOLDER = re.compile(r"\{\{[ \t]*([^{}\s]+)[ \t]*\}\}")

_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9_]")


def render(command: str, params: Mapping[str, str]) -> str:
    """`command` with each `{{name}}` replaced by its value; names not in `params` stay."""
    return PLACEHOLDER.sub(lambda match: params.get(match[1], match[0]), command)


def names(command: str) -> list[str]:
    """The names that `command` has placeholders for, in order, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(command)))


def variable(name: str) -> str:
    """The environment variable that parameter `name` is: `lr-decay` → `LR_DECAY`."""
    return _NOT_IN_VARIABLE.sub("_", name.upper())


def environment(params: Mapping[str, str]) -> dict[str, str]:
    """Every parameter as an environment variable."""
    return {variable(name): value for name, value in params.items()}
