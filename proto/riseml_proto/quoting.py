"""Where in a shell's text something stands: bare, or between which quotes.

Follows the grammar of POSIX shells as far as quotes go: quotes, backslashes, comments, `$(…)`, `${…}`, backticks and
here-documents. A text that this misreads is one that no value can break further than it was.
"""

import re
from collections.abc import Iterator
from enum import Enum

_HEREDOC = re.compile(r"<<(-?)[ \t]*(\\?)(['\"]?)([A-Za-z0-9_.+-]+)\3")


class Quote(Enum):
    """What surrounds a place in a command, and so what a shell would act upon there."""

    NONE = "bare"
    SINGLE = "'"
    DOUBLE = '"'
    HEREDOC = "<<"
    VERBATIM = "a comment, or a here-document whose word is quoted"


_ACTED_UPON = {
    Quote.DOUBLE: re.compile(r'([\\"$`])'),
    Quote.HEREDOC: re.compile(r"([\\$`])"),
}


def escaped(value: str, quote: Quote) -> str:
    """`value` such that a shell reads it as it is where `quote` surrounds it; bare, it is left as it is."""
    if quote is Quote.SINGLE:
        return value.replace("'", "'\\''")
    pattern = _ACTED_UPON.get(quote)
    return pattern.sub(r"\\\1", value) if pattern else value


def quotes(command: str, places: list[int]) -> Iterator[Quote]:
    """What surrounds each of the `places`, rising offsets into `command`."""
    reader = _Reader(command)
    for place in places:
        yield reader.read_to(place)


class _Reader:
    """Reads a command once, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._open: list[str] = []  # of ' " ( { ` # and H, the innermost last
        self._documents: list[tuple[str, bool, bool]] = []  # word, quoted, tabs are taken off
        self._document_ends = 0
        self._expands = True

    def read_to(self, place: int) -> Quote:
        while self._at < place:
            self._step()
        inner = self._open[-1] if self._open else ""
        if inner == "H":
            return Quote.HEREDOC if self._expands else Quote.VERBATIM
        named = {"'": Quote.SINGLE, '"': Quote.DOUBLE, "#": Quote.VERBATIM}
        return named.get(inner, Quote.NONE)

    def _step(self) -> None:
        text, at = self._text, self._at
        char = text[at]
        inner = self._open[-1] if self._open else ""
        self._at += 1
        if inner == "H":
            if self._at >= self._document_ends:
                self._open.pop()
                self._begin_document()
        elif inner == "'":
            if char == "'":
                self._open.pop()
        elif inner == "#":
            if char == "\n":
                self._open.pop()
                self._begin_document()
        elif char == "\\":
            self._at += 1
        elif char == '"':
            self._toggle('"')
        elif char == "`":
            self._toggle("`")
        elif text.startswith("$(", at):
            self._open.append("(")
            self._at += 1
        elif text.startswith("${", at):
            self._open.append("{")
            self._at += 1
        elif inner == '"':
            pass
        elif inner == "{" and char == "}":
            self._open.pop()
        else:
            self._bare(char, at)

    def _bare(self, char: str, at: int) -> None:
        text, inner = self._text, self._open[-1] if self._open else ""
        if char == "'":
            self._open.append("'")
        elif char == "(":
            self._open.append("(")
        elif char == ")" and inner == "(":
            self._open.pop()
        elif char == "#" and (at == 0 or text[at - 1] in " \t\n;&|()"):
            self._open.append("#")
        elif char == "\n":
            self._begin_document()
        elif text.startswith("<<", at) and not text.startswith("<<<", at):
            if match := _HEREDOC.match(text, at):
                self._documents.append((match[4], bool(match[2] or match[3]), bool(match[1])))
                self._at = match.end()
        elif text.startswith("<<<", at):
            self._at += 2

    def _toggle(self, mark: str) -> None:
        """Close what `mark` has opened, or open it."""
        if self._open and self._open[-1] == mark:
            self._open.pop()
        else:
            self._open.append(mark)

    def _begin_document(self) -> None:
        """At the beginning of a line: that of a here-document, if one is announced."""
        if not self._documents:
            return
        word, quoted, strips = self._documents.pop(0)
        tabs = "\t*" if strips else ""
        end = re.compile(rf"^{tabs}{re.escape(word)}$", re.MULTILINE).search(self._text, self._at)
        self._document_ends = end.end() if end else len(self._text)
        self._expands = not quoted
        self._open.append("H")
