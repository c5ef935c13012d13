"""Text for people: times, ages, colours, and a job's output without what could harm a terminal.

`Screen` writes the lines of `riseml train` and `riseml logs`. On a terminal it keeps the line that a job is still
writing, such as a progress bar, at the bottom and draws it again as it grows.
"""

import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from riseml.nested_bars import Rows, visible
from riseml_proto.ids import column_width, parse
from riseml_proto.messages import ElidedEntry, Entry, HeadEntry, LineEntry, PartialEntry, StateEntry
from riseml_proto.states import State

RESET = "\x1b[0m"
_COLOURS = {
    State.CREATED: "\x1b[2m",
    State.BUILDING: "\x1b[34m",
    State.PENDING: "\x1b[34m",
    State.STARTING: "\x1b[36m",
    State.RUNNING: "\x1b[36m",
    State.FINISHED: "\x1b[32m",
    State.FAILED: "\x1b[31m",
    State.KILLED: "\x1b[33m",
}
_SGR = re.compile(r"\x1b\[[\d;:]*m")
# A control string (title, clipboard, …) up to its end, another escape sequence, or a control
# character by itself.
_CONTROL = re.compile(
    r"\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?P<sgr>\x1b\[[\d;:]*m)"
    r"|(?:\x1b\[|\x9b)[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]?"
    r"|\x1b[\x20-\x2f]*[\x30-\x7e]?"
    r"|[\x00-\x1f\x7f-\x9f]"
)


def stamp(time: datetime) -> str:
    """`time` in UTC, as `2017-08-30T09:59:06Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(since: datetime, now: datetime) -> str:
    """How long ago `since` was: `8 second(s)`, `2 minute(s)`, `3 hour(s)` or `4 day(s)`."""
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{seconds // size} {unit}(s)"
    return f"{seconds} second(s)"


def paint(state: State, text: str | None = None, *, colour: bool = True) -> str:
    """`text`, by default the state's name, in the state's colour if `colour`."""
    return f"{_COLOURS[state]}{text or state}{RESET}" if colour else text or state


def clean(text: str, *, colour: bool) -> str:
    """`text` without control characters and escape sequences; colours stay if `colour`."""
    if text.isprintable():
        return text
    text = _CONTROL.sub(lambda match: (colour and match["sgr"]) or "", text.expandtabs())
    colours = _SGR.findall(text)
    return text if not colours or colours[-1] in ("\x1b[m", RESET) else text + RESET


def cut(text: str, width: int) -> str:
    """At most `width` columns of `text`, with `…` at the end where it was cut. Colours take no column."""
    room, kept, end = width, [], 0
    for match in re.finditer(r"\x1b\[[\d;:]*m|.", text, re.DOTALL):
        taken = 0 if len(match[0]) > 1 else _columns(match[0])
        if taken > room:
            break
        room -= taken
        kept.append((match[0], taken))
        end = match.end()
    if end == len(text):
        return text
    while room < 1 and kept:
        room += kept.pop()[1]
    shown = "".join(part for part, _ in kept)
    return f"{shown}…{RESET}" if "\x1b" in shown else f"{shown}…"


def _width(text: str) -> int:
    """Columns that `text` takes; colours take none."""
    return sum(map(_columns, _SGR.sub("", text)))


def _columns(character: str) -> int:
    if character.isascii():
        return 1
    from unicodedata import combining, east_asian_width

    return 0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1


def has_colour(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `out` gets colours: a terminal whose user wants them, or anything where FORCE_COLOR asks for it.

    https://no-color.org, https://force-color.org; NO_COLOR wins over FORCE_COLOR.
    """
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE")
    if forced:
        return forced not in ("0", "false")
    return out.isatty() and environ.get("TERM") != "dumb"


def columns(out: TextIO) -> int | None:
    """The width of the terminal `out` in columns; None where `out` is no terminal."""
    return size(out)[0] if out.isatty() else None


def size(out: TextIO) -> tuple[int, int]:
    """The columns and rows of the terminal `out`; 80 and 24 where they are not known."""
    try:
        terminal = os.get_terminal_size(out.fileno())
    except OSError:
        return 80, 24
    return terminal.columns or 80, terminal.lines or 24


def notice(text: str) -> None:
    """Print `text` on stderr, as a message of ours."""
    print(f"riseml: {text}", file=sys.stderr)


class Screen:
    """Writes a stream of entries to `out` (default: stdout)."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._tty = self._out.isatty()
        self._live = self._tty and os.environ.get("TERM") != "dumb"
        self._colour = has_colour(self._out, os.environ)
        self._width = 0
        self._partial: PartialEntry | None = None
        self._bars: dict[str, tuple[Rows, LineEntry]] = {}
        self._drawn: list[int] = []

    def show(self, entry: Entry) -> None:
        """Write `entry`; a partial line only on a terminal."""
        if isinstance(entry, HeadEntry):
            self._width = column_width(parse(entry.id).experiment or 0, entry.count)
        elif isinstance(entry, PartialEntry):
            if self._live and entry.job not in self._bars:
                self._erase()
                self._partial = entry
                self._draw()
        elif isinstance(entry, StateEntry | ElidedEntry | LineEntry):
            self._erase()
            if isinstance(entry, LineEntry):
                if self._partial and self._partial.job == entry.job:
                    self._partial = None
                self._feed(entry)
            else:
                if isinstance(entry, StateEntry) and entry.state.ended:
                    self._flush(entry.id)
                self._write(self._format(entry))
            self._draw()
        self._out.flush()

    def notice(self, text: str) -> None:
        """Print `text` on stderr."""
        self.clear()
        notice(text)

    def clear(self) -> None:
        """Remove the partial line at the bottom, and write bars as lines."""
        self._erase()
        self._partial = None
        self._flush()
        self._out.flush()

    def _feed(self, entry: LineEntry) -> None:
        """Write `entry`, or hold it where it is one of several bars that may be drawn again."""
        rows, _ = self._bars.pop(entry.job, (Rows(), entry))
        for text in rows.feed(entry.text):
            self._write([self._line(entry, text)])
        if rows.shown:
            self._bars[entry.job] = rows, entry

    def _flush(self, experiment: str | None = None) -> None:
        """Write the bars of the jobs of `experiment`, by default of all, as lines."""
        mine = "" if experiment is None else f"{experiment}."
        for job in [job for job in self._bars if job.startswith(mine)]:
            rows, entry = self._bars.pop(job)
            self._write([self._line(entry, text) for text in rows.flush()])

    def _write(self, lines: list[str]) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))

    def _line(self, entry: LineEntry | PartialEntry, text: str) -> str:
        prefix = f"{entry.job:<{self._width}}| [{stamp(entry.time)}] "
        return prefix + self._safe(visible(text))

    def _format(self, entry: StateEntry | ElidedEntry) -> list[str]:
        prefix = f"{entry.id:<{self._width}}| [{stamp(entry.time)}] "
        state = paint(entry.state, colour=self._colour)
        if isinstance(entry, ElidedEntry):
            return [f"{prefix}{entry.count:,} more are {state}"]
        facts = (
            ("Reason", entry.reason),
            ("Message", entry.message),
            ("Exit Code", entry.exit_code),
        )
        texts = [f"{key}: {value}" for key, value in facts if value is not None]
        lines = [line for text in texts for line in text.splitlines()]
        return [f"{prefix}--> {state}", *(prefix + self._safe(line) for line in lines)]

    def _safe(self, text: str) -> str:
        return clean(text, colour=self._colour) if self._tty else text

    def _draw(self) -> None:
        """Draw the bars and the partial line at the bottom of a terminal."""
        if not self._live:
            return
        texts = [
            self._line(entry, row) for rows, entry in self._bars.values() for row in rows.shown
        ]
        if self._partial:
            texts.append(self._line(self._partial, self._partial.text))
        width, height = size(self._out)
        texts = [cut(text, width - 1) for text in texts[1 - height :]]
        if texts:
            self._out.write("\r\x1b[K" + "\n".join(texts))
        self._drawn = [_width(text) for text in texts]

    def _erase(self) -> None:
        if self._drawn:
            # A terminal that became narrower has broken a line into several.
            width = size(self._out)[0]
            rows = sum(max(1, -(-taken // width)) for taken in self._drawn)
            self._out.write("\r\x1b[K" + "\x1b[A\x1b[K" * (rows - 1))
        self._drawn = []
