"""Commands in YAML's folded scalars (`>`): reading them, and writing them back."""

import re

_BREAKS = re.compile(r"(\n+)")


def fold(text: str) -> str:
    """The command in a folded scalar (`>`) whose YAML value is `text`.

    YAML keeps the line breaks around lines that are indented further. People who write a command this way mean blanks,
    so such a break and the indentation become one blank. Blank lines stay, and so do breaks after a backslash.
    """
    first, *rest = _BREAKS.split(text.strip("\n"))
    command, previous = first.lstrip(" \t"), first
    for breaks, line in zip(rest[::2], rest[1::2], strict=True):
        if previous.endswith("\\") or not (_indented(previous) or _indented(line)):
            command += breaks
        else:
            command += breaks[1:] or " "
        command += line.lstrip(" \t")
        previous = line
    return command


def unfold(text: str) -> str:
    """The lines to write, without indentation, for a folded scalar whose YAML value is `text`."""
    first, *rest = _BREAKS.split(text.strip("\n"))
    block, previous = first, first
    for breaks, line in zip(rest[::2], rest[1::2], strict=True):
        block += breaks if _indented(previous) or _indented(line) else breaks + "\n"
        block += line
        previous = line
    return block


def _indented(line: str) -> bool:
    """Whether a line of a folded scalar's value was indented further than its first one."""
    return line.startswith((" ", "\t"))
