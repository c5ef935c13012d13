"""riseml-configuration.yml: the settings and parameters of a sub-experiment, beside its output.

Keys are sorted, a text stands plain wherever YAML reads it back as the same text, and `run` keeps
the layout it has in riseml.yml. All but `params` is the same for each member of a set, and is made
once.
"""

import re
from collections.abc import Iterator, Mapping

from riseml_proto.config import Config, Written
from riseml_proto.errors import ConfigError
from riseml_proto.folding import fold, unfold
from riseml_proto.value import Data
from riseml_proto.yamltext import compose

# Plain enough to need no thought: no blank, colon or number sign where YAML would read more into it
# than a character.
_PLAIN = re.compile(r"-?[A-Za-z0-9_./+~$(](?:[!-9;-~]|:(?=[!-~])| (?=[!\"$-~]))*")
_ESCAPED = re.compile(r"[^ !#-\[\]-~]")
_RUN_INDENT = "    "


class ConfigurationFile:
    """Writes the file for each member of one experiment."""

    def __init__(self, config: Config, revision: str) -> None:
        sections: dict[str, Data] = {
            **config.written,
            "project": config.project,
            "revision": revision,
        }
        install: list[Data] = list(config.install)
        if config.image is not None:
            sections["image"] = {"name": config.image} | ({"install": install} if install else {})
        elif install:
            sections["install"] = install
        rendered = {key: "".join(_lines({key: value}, "")) for key, value in sections.items()}
        rendered["run"] = f"run:\n  run:{_run(config)}"
        self._before = "".join(rendered[key] for key in sorted(rendered) if key < "params")
        self._after = "".join(rendered[key] for key in sorted(rendered) if key > "params") + "\n"

    def text(self, params: Mapping[str, str] | None) -> str:
        """The text for a member with these parameter values; None where there are no parameters."""
        if not params:
            return self._before + self._after
        written = "".join([f"  {name}: {scalar(params[name])}\n" for name in sorted(params)])
        return f"{self._before}params:\n{written}{self._after}"


def scalar(text: str) -> str:
    """`text` on one line, plain or in quotes, so that YAML reads it back character by character."""
    if _PLAIN.fullmatch(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in '"\\':
        return "\\" + character
    if character == "\n":
        return "\\n"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _lines(data: Data, indent: str) -> Iterator[str]:
    """The lines of a list or map in block style; maps are sorted."""
    if isinstance(data, list):
        members = [("-", member) for member in data]
    else:
        assert isinstance(data, dict)
        members = [(f"{scalar(key)}:", data[key]) for key in sorted(data)]
    for head, value in members:
        if isinstance(value, str):
            yield f"{indent}{head} {scalar(value)}\n"
        else:
            yield f"{indent}{head}\n"
            yield from _lines(value, indent + "  ")


def _run(config: Config) -> str:
    """What follows the key `run:`, the line's end included."""
    if not config.run_is_list:
        return f" {_command(config.run_written[0], _RUN_INDENT)}\n"
    items = [
        f"{_RUN_INDENT}- {_command(item, _RUN_INDENT + '  ')}\n" for item in config.run_written
    ]
    return "\n" + "".join(items)


def _command(written: Written, indent: str) -> str:
    """A command in its own style if it reads back as the same one, else in quotes."""
    if written.style == ">":
        block = ">-\n" + _indent(unfold(written.text), indent)
    elif written.style == "|":
        chomping = "" if written.text.endswith("\n") else "-"
        block = f"|{chomping}\n" + _indent(written.text.removesuffix("\n"), indent)
    else:
        return scalar(written.text)
    command = fold(written.text) if written.style == ">" else written.text
    return block if _reads_as(block, written.style, command) else scalar(command)


def _indent(text: str, indent: str) -> str:
    return "\n".join(indent + line if line else "" for line in text.split("\n"))


def _reads_as(block: str, style: str, command: str) -> bool:
    try:
        value = compose(f"- {block}\n\n", "").items()[0]
    except ConfigError:
        return False
    return (
        value.style == style and (fold(value.text()) if style == ">" else value.text()) == command
    )
