"""`{{name}}` in a command, and the environment variable of each parameter.

All placeholders are replaced at once: a value that looks like a placeholder is not replaced again. Between quotes a
value arrives as it was written, whatever the shell would act upon; a bare one is split into words by the shell.
"""

import re
from collections.abc import Mapping

from riseml_proto.quoting import escaped, quotes
from riseml_proto.variables import variable

PLACEHOLDER = re.compile(r"\{\{[ \t]*([^{}\s]+)[ \t]*\}\}")

_PLAIN = re.compile(r"[\w.,:/@%+=-]*", re.ASCII)  # nothing that a shell acts upon between quotes


def render(command: str, params: Mapping[str, str]) -> str:
    """`command` with each `{{name}}` replaced by its value; names that are not in `params` stay.

    A command that begins with `#!` is no shell's: its values are put in as they are.
    """
    matches = [match for match in PLACEHOLDER.finditer(command) if match[1] in params]
    if command.startswith("#!") or all(_PLAIN.fullmatch(params[match[1]]) for match in matches):
        return PLACEHOLDER.sub(lambda match: params.get(match[1], match[0]), command)
    places = [match.start() for match in matches]
    rendered, end = "", 0
    for match, quote in zip(matches, quotes(command, places), strict=True):
        rendered += command[end : match.start()] + escaped(params[match[1]], quote)
        end = match.end()
    return rendered + command[end:]


def names(command: str) -> list[str]:
    """The names of the placeholders in `command`, in order, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(command)))


def environment(params: Mapping[str, str]) -> dict[str, str]:
    """Environment variable → value of every parameter."""
    return {variable(name): value for name, value in params.items()}
