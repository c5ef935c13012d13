"""A value of a YAML document as it was written, with its line and path."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from riseml_proto.errors import ConfigError

Data = str | list["Data"] | dict[str, "Data"]
"""Values as texts, in lists and maps."""

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Value:
    """One value. Its methods raise a `ConfigError` with its file, line and path."""

    file: str
    line: int
    """Counted from 1; for a value in a map the line of its key."""
    path: str
    content: "str | list[Value] | dict[str, Value]"
    style: str = ""
    """A scalar's: empty for a plain one, else `'`, `"`, `|` or `>`."""

    def error(self, text: str) -> ConfigError:
        """A `ConfigError` with `text` about this value; the caller raises it."""
        return ConfigError(text, file=self.file, line=self.line, path=self.path)

    @property
    def absent(self) -> bool:
        """Whether nothing was written after the key or the dash."""
        return self.content == "" and not self.style

    def text(self) -> str:
        """The text of a scalar. It may not be absent or hold characters that no program accepts."""
        if not isinstance(self.content, str):
            raise self.error(f"must be a single value, not {self._kind()}")
        if self.absent:
            raise self.error("has no value; write one, or '' for an empty text")
        if "\0" in self.content or not encodable(self.content):
            raise self.error(
                "holds a character that no command can be given (NUL or half a character)"
            )
        return self.content

    def items(self, noun: str = "values") -> "list[Value]":
        """The members of a list, at least one. `noun` names them in the error."""
        if not isinstance(self.content, list):
            raise self.error(f"must be a list of {noun}, not {self._kind()}")
        if not self.content:
            raise self.error("is an empty list; write at least one value")
        return self.content

    def entries(self) -> "dict[str, Value]":
        """The members of a map, at least one."""
        if not isinstance(self.content, dict):
            raise self.error(f"must be a map (name: value), not {self._kind()}")
        if not self.content:
            raise self.error("is empty; fill it or remove it")
        return self.content

    def fields(self, known: tuple[str, ...]) -> "dict[str, Value]":
        """The members of a map that may only have the `known` keys; the error suggests the nearest."""
        entries = self.entries()
        for key, value in entries.items():
            if key not in known:
                raise value.error(unknown_key(key, known))
        return entries

    def data(self) -> Data:
        """The value as plain data, for sections that are only written back."""
        if isinstance(self.content, str):
            return self.text()
        if isinstance(self.content, list):
            return [item.data() for item in self.items()]
        return {key: value.data() for key, value in self.entries().items()}

    def _kind(self) -> str:
        if isinstance(self.content, str):
            return "nothing" if self.absent else shown(self.content)
        return "a list" if isinstance(self.content, list) else "a map"


def shown(text: str) -> str:
    """`text` as an error shows it: on one line, at most 60 characters."""
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return short if short.isprintable() and short.strip() else repr(short)


def encodable(text: str) -> bool:
    """Whether `text` is valid Unicode. An escape in quotes can make half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What is wrong with a key that is not one of the `known`, with the nearest of those, or all."""
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"
