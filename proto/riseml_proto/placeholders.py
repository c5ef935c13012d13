"""`{{name}}` in a command, and the environment variable of each parameter.

All placeholders are replaced at once: a value is not quoted for the shell, and a value that looks like
a placeholder is not replaced again.
"""

import re
from collections.abc import Mapping

PLACEHOLDER = re.compile(r"\{\{[ \t]*([^{}\s]+)[ \t]*\}\}")

_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9_]")


def render(command: str, params: Mapping[str, str]) -> str:
    """`command` with each `{{name}}` replaced by its value; names that are not in `params` stay."""
    return PLACEHOLDER.sub(lambda match: params.get(match[1], match[0]), command)


def names(command: str) -> list[str]:
    """The names of the placeholders in `command`, in order, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(command)))


def variable(name: str) -> str:
    """The environment variable of parameter `name`: `lr-decay` → `LR_DECAY`."""
    return _NOT_IN_VARIABLE.sub("_", name.upper())


def environment(params: Mapping[str, str]) -> dict[str, str]:
    """Environment variable → value of every parameter."""
    return {variable(name): value for name, value in params.items()}
