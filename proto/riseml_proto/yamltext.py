"""Reads YAML as it was written: each scalar keeps its text, each value has its line and its path.

YAML's own types would lose what a person wrote: `1e-6` would be a text, `0.0001` a float, `007` a seven. Nothing here
is recursive, and length, depth and number of values are limited, so that a hostile text costs little.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from riseml_proto.errors import ConfigError
from riseml_proto.value import Value, shown

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # a PyYAML without libyaml is some ten times slower and reads the same
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_CHARACTERS = 2**20
MAX_VALUES = 100_000  # aliases count as what they stand for
MAX_DEPTH = 16  # the deepest path of riseml.yml has 8 levels

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_FORBIDDEN = re.compile(
    "[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def lines(text: str) -> list[str]:
    """The lines of `text` as YAML separates them."""
    return _LINE_BREAK.split(text)


def compose(text: str, file: str) -> Value:
    """Read a YAML document. Raises `ConfigError` where `text` is not one document of plain YAML."""
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"has over {MAX_CHARACTERS:,} characters; make it shorter", file=file)
    if bad := _FORBIDDEN.search(text):
        line = len(lines(text[: bad.start()]))
        problem = f"holds the character {bad[0]!r}, which YAML forbids; remove it"
        raise ConfigError(problem, file=file, line=line)
    composer = _Composer(file)
    for event in _events(text, file):
        composer.take(event)
    if composer.root is None:
        raise ConfigError("is empty; riseml init writes a first one", file=file, line=1)
    return composer.root


@dataclass(slots=True)
class _Open:
    """A list or map whose end has not been read yet."""

    line: int
    path: str
    anchor: str | None
    content: list[Value] | dict[str, Value]
    key: tuple[str, int] | None = None
    """The key of a map that waits for its value, and its line."""
    size: int = 1


class _Node(NamedTuple):
    """The value of an anchor, without line and path, and the number of values in it."""

    content: str | list[Value] | dict[str, Value]
    style: str = ""
    size: int = 1


@dataclass(slots=True)
class _Composer:
    """Builds values from YAML's events, without recursion."""

    file: str
    root: Value | None = None
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, _Node] = field(default_factory=dict)

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event.tag, line)
            self._add(_Node(event.value, event.style or ""), event.anchor, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self.stack.pop()
            self._add(_Node(done.content, size=done.size), done.anchor, done.line)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._error(line, f"no value above is called &{event.anchor}; write it out")
            self._add(self.anchors[event.anchor], None, line)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self._error(line, "holds a second document; keep one, without a line ---")

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._refuse_tag(event.tag, line)
        if len(self.stack) == MAX_DEPTH:
            raise self._error(line, "is nested too deeply")
        is_list = isinstance(event, yaml.SequenceStartEvent)
        line, path = self._position(line)
        self.stack.append(_Open(line, path, event.anchor, [] if is_list else {}))

    def _add(self, node: _Node, anchor: str | None, line: int) -> None:
        """Put `node`, which starts in `line`, where the innermost open list or map expects one."""
        if anchor is not None:
            self.anchors[anchor] = node
        parent = self.stack[-1] if self.stack else None
        if parent is None:
            self.root = Value(self.file, line, "", node.content, node.style)
            return
        parent.size += node.size
        if parent.size > MAX_VALUES:
            raise self._error(line, f"has more than {MAX_VALUES:,} values; write a range")
        line, path = self._position(line)
        if isinstance(parent.content, list):
            parent.content.append(Value(self.file, line, path, node.content, node.style))
        elif parent.key is None:
            parent.key = self._key(parent.content, node, line)
        else:
            key, parent.key = parent.key[0], None
            parent.content[key] = Value(self.file, line, path, node.content, node.style)

    def _key(self, taken: dict[str, Value], node: _Node, line: int) -> tuple[str, int]:
        if not isinstance(node.content, str):
            text = "a key must be a text; a value that starts with { or [ needs quotes"
            raise self._error(line, text)
        if (earlier := taken.get(node.content)) is not None:
            text = f"is there twice, first in line {earlier.line}; remove one"
            raise ConfigError(text, file=self.file, line=line, path=earlier.path)
        return node.content, line

    def _position(self, line: int) -> tuple[int, str]:
        """Line and path of the value that comes next, which starts in `line`."""
        if not self.stack:
            return line, ""
        parent = self.stack[-1]
        if parent.key is None:  # a list's member or a map's key
            return line, parent.path
        key, line = parent.key
        return line, f"{parent.path}.{shown(key)}" if parent.path else shown(key)

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        if tag is not None:
            name = shown(tag.replace("tag:yaml.org,2002:", "!!"))
            raise self._error(line, f"tags such as {name} have no meaning here; remove it")

    def _error(self, line: int, text: str) -> ConfigError:
        return ConfigError(
            text, file=self.file, line=line, path=self.stack[-1].path if self.stack else ""
        )


def _events(text: str, file: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        problem = (error.problem or "broken").replace("\n", " ")
        raise ConfigError(_readable(text, line, problem), file=file, line=line) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {shown(str(error))}", file=file) from None


def _readable(text: str, line: int, problem: str) -> str:
    """The mistake in `line`: one of the usual ones, or the parser's own words."""
    all_lines = lines(text)
    source = all_lines[line - 1] if 0 < line <= len(all_lines) else ""
    if "\t" in source[: len(source) - len(source.lstrip())]:
        return "is indented with a tab; YAML wants blanks"
    if re.search(r"(:|-)\s+(\{\{|[@`%])", source):
        return "a value that starts with {{, @, ` or % needs quotes around it"
    if "mapping values" in problem:
        return "a second colon, or wrong indentation; put quotes around a value that holds ': '"
    return f"is not YAML: {problem}; look at the indentation and quotes here and in the line above"
