"""Man pages from the pages in docs/: Markdown as these pages use it becomes roff, which man(1) shows."""

import re
import textwrap
from collections.abc import Iterator

from riseml_proto import VERSION
from scripts.reference import blocks, daemon

_INDENT, _SCREEN = 11, 79
"""Columns before an example, where it leaves room for them, and on a screen."""
_RISED_SECTIONS = (
    "Start and stop", "Configuration", "Which job is next", "Isolation", "The state directory", "Its own log",
)  # fmt: skip
_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_ASCII = {"…": "...", "→": "->", "°": "degrees "}
"""What man shows wrong, or not at all, where LANG is unset."""
_MAN = {"cli.md": "riseml(1)", "daemon.md": "rised(8)"}
"""Page → the man page that is made from it."""


class NoSuchSection(Exception):
    """A page has another heading now: change `_RISED_SECTIONS`, too."""


def riseml(page: str) -> str:
    """riseml(1), from docs/cli.md."""
    page = page.partition("\n")[2].strip()  # without its title
    return (
        _head("riseml", 1, "run hyperparameter experiments on a GPU box")
        + ".SH SYNOPSIS\n\\fBriseml\\fR [\\fB\\-\\-host\\fR URL] COMMAND ...\n.SH DESCRIPTION\n"
        + roff(page)
        + ".SH SEE ALSO\n.BR rised (8)\n"
    )


def rised(page: str) -> str:
    """rised(8), from docs/daemon.md and the parser of `rised`."""
    page = blocks.replace(page, "settings", "")  # its keys are the options
    parts = [f"## Description\n\n{daemon.description()}", f"## Options\n\n{daemon.options()}"]
    parts += [_section(page, title) for title in _RISED_SECTIONS]
    return (
        _head("rised", 8, "the daemon behind riseml")
        + ".SH SYNOPSIS\n\\fBrised\\fR [FLAG ...]\n"
        + roff("\n\n".join(parts))
        + ".SH SEE ALSO\n.BR riseml (1)\n"
    )


def roff(markdown: str) -> str:
    """Headings, paragraphs, lists, tables and examples of Markdown as roff with the macros of man."""
    text = re.sub(r"<!--.*?-->\n?", "", markdown)
    for mark, plain in _ASCII.items():
        text = text.replace(mark, plain)
    return "".join(f"{line}\n" for part in _parts(text) for line in _part(part))


def _head(name: str, number: int, summary: str) -> str:
    return (
        f'.\\" Made by make docs.\n.nr HY 0\n.TH {name.upper()} {number} "" "{name} {VERSION}"\n'
        f".ad l\n.SH NAME\n{name} \\- {summary}\n"
    )


def _section(page: str, title: str) -> str:
    """A section of a page, with its heading and up to the next of the same rank. Raises `NoSuchSection`."""
    _, heading, rest = page.partition(f"\n## {title}\n")
    if not heading:
        raise NoSuchSection(f"the page has no section {title!r}, of which a man page is made")
    return heading + rest.partition("\n## ")[0]


def _parts(text: str) -> Iterator[str]:
    """What empty lines separate; an example may have some in it."""
    for number, part in enumerate(re.split(r"^```[a-z]*\n(.*?)^```$", text, flags=re.M | re.S)):
        if number % 2:
            yield f"```\n{part}"
        else:
            yield from filter(None, (one.strip("\n") for one in re.split(r"\n\s*\n", part)))


def _part(text: str) -> Iterator[str]:
    if text.startswith("```\n"):
        yield from _example(text[4:].rstrip("\n").split("\n"))
    elif text.startswith("### "):
        yield f".SS {_inline(text[4:])}"
    elif text.startswith("## "):
        yield f".SH {_inline(text[3:].upper())}"
    elif text.startswith("| "):
        yield from _table(text.split("\n"))
    elif re.match(r"- |\d+\. ", text):
        for mark, item in re.findall(r"^(-|\d+\.) (.*(?:\n  .*)*)", text, flags=re.M):
            yield ".IP \\(bu 4" if mark == "-" else f".IP {mark} 4"
            yield from _filled(item)
    else:
        yield ".PP"
        yield from _filled(text)


def _example(lines: list[str]) -> Iterator[str]:
    """An example keeps its lines; a wide one begins farther to the left."""
    yield ".PP"
    yield f".in {max(0, min(_INDENT, _SCREEN - max(map(len, lines))))}n"
    yield ".EX"
    yield from (_line(_escape(line)) for line in lines)
    yield ".EE"
    yield ".in"


def _table(lines: list[str]) -> Iterator[str]:
    """Each row as a term and its text; what stands in a third column and on is named by its title."""
    titles, _, *rows = ([cell.strip() for cell in _cells(line)] for line in lines)
    for term, text, *more in rows:
        named = "".join(f" ({title}: {cell})" for title, cell in zip(titles[2:], more, strict=True))
        yield ".TP"
        yield _line(_inline(term))
        yield from _filled(text + named)


def _cells(line: str) -> list[str]:
    return [cell.replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _filled(text: str) -> Iterator[str]:
    lines = textwrap.wrap(_inline(text), 100, break_long_words=False, break_on_hyphens=False)
    yield from map(_line, lines)


def _inline(text: str) -> str:
    """A paragraph with code and emphasis in bold; a link is its text, and the page that it leads to."""
    pieces = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", _links(" ".join(text.split())))
    shown = [
        f"\\fB{_escape(p.strip('`*'))}\\fR" if n % 2 else _escape(p) for n, p in enumerate(pieces)
    ]
    return "".join(shown)


def _links(text: str) -> str:
    text = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", text)

    def page(match: re.Match[str]) -> str:
        name = _MAN.get(match[2], f"docs/{match[2]}")
        return name if match[1].endswith(".md") else f"{match[1]} ({name})"

    return re.sub(r"\[([^\]]+)\]\(([a-z-]+\.md)[^)]*\)", page, text)


def _line(text: str) -> str:
    """A line must not look like one of roff's own."""
    return f"\\&{text}" if text.startswith(".") else text


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(c, c) for c in text)
