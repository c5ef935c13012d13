"""Progress of a sync or a copy: `Syncing project (1.3 MB, 7 files)...done`, and bars on terminals."""

import os
import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

from riseml.screen import columns, cut, notice

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 0.3
"""Seconds before a bar appears: a quick sync should not flicker."""
_ROOM_FOR_SIZES, _ROOM_FOR_SPEED = 50, 70
"""Columns that a terminal needs, so that a bar with its title is one line."""
_REFRESH = 0.1  # seconds between two drawings of a bar


def size_text(size: int) -> str:
    """`size` bytes for people, in decimal units: `512 B`, `7.6 KB`, `1.3 MB`."""
    if size < 1000:
        return f"{size} B"
    scaled = size / 1000
    units = ["TB", "GB", "MB", "KB"]
    while scaled >= 999.95 and len(units) > 1:  # 999.95 would be written as 1000.0
        scaled /= 1000
        units.pop()
    return f"{scaled:.1f} {units[-1]}"


def plural(count: int, noun: str) -> str:
    """`1 file`, `7 files`, `12,000 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Bar:
    """A progress bar on a terminal, for use in a `with`; none where it is done within `patience` seconds."""

    def __init__(
        self, out: TextIO | None = None, *, patience: float = PATIENCE, title: str = ""
    ) -> None:
        """On `out`, by default stderr, behind `title`."""
        self._out = out or sys.stderr
        self._live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._title = title
        self._step = ""
        self._total = self._done = 0
        self._due = time.monotonic() + patience
        self._bar: Progress | None = None
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._bar:
            self._bar.stop()

    def start(self, total: int, step: str = "") -> None:
        """Begin a `step` (`reading`, `sending`) that has to deal with `total` bytes."""
        self._step, self._total, self._done = step, total, 0
        if self._bar:
            self._draw(self._bar)

    def advance(self, amount: int) -> None:
        """Count `amount` bytes more as done."""
        self._done += amount
        if self._live and (now := time.monotonic()) >= self._due:
            self._due = now + _REFRESH
            self._bar = self._bar or self._begin()
            self._draw(self._bar)

    def _draw(self, bar: "Progress") -> None:
        width = columns(self._out) or 80
        if width != self._width:
            self._restart(bar, width)
            return
        text, task = f"{self._title} {self._step}", bar.task_ids[0]
        bar.update(task, description=text, total=self._total, completed=self._done, refresh=True)

    def _restart(self, bar: "Progress", width: int) -> None:
        """Draw the bar anew where the terminal's width has changed; terminals break the old line into several."""
        line = bar.console.render_lines(bar.get_renderable(), pad=False)[0]
        rows = -(-sum(segment.cell_length for segment in line) // width)
        self._out.write("\r\x1b[K" + "\x1b[A\x1b[K" * (rows - 1))
        bar.console.width = width
        bar.stop()  # draws the bar once more, and then removes it
        self._bar = self._begin()
        self._draw(self._bar)

    def _begin(self) -> "Progress":
        from rich import progress  # takes 80 ms, and only what takes long needs it
        from rich.console import Console
        from rich.table import Column

        self._width = columns(self._out) or 80
        parts: list[progress.ProgressColumn] = [progress.BarColumn()]
        if self._title:
            parts.insert(0, progress.TextColumn("{task.description}"))
        if self._width >= _ROOM_FOR_SIZES:
            parts.append(progress.DownloadColumn(table_column=Column(no_wrap=True)))
        if self._width >= _ROOM_FOR_SPEED:
            parts.append(progress.TransferSpeedColumn(table_column=Column(no_wrap=True)))
            if not self._title:
                parts.append(progress.TimeRemainingColumn(table_column=Column(no_wrap=True)))
        console = Console(file=self._out, width=self._width)
        bar = progress.Progress(*parts, console=console, transient=True, auto_refresh=False)
        text = f"{self._title} {self._step}"
        bar.add_task(text, total=self._total, completed=self._done)
        bar.start()
        return bar


class SyncLine(Bar):
    """The line of a sync, for use in a `with`: it is begun there, and ended by `done` or `failed`.

    A progress bar stands in its place while a slow sync goes on. Where `out` is no terminal the line is written at the
    end: it may be a file of the project (`riseml train | tee train.log`), which must not change while it is synced.
    """

    def __init__(
        self, size: int, count: int, out: TextIO | None = None, *, patience: float = PATIENCE
    ) -> None:
        """Of `count` files with `size` bytes; written to `out`, by default stdout."""
        super().__init__(out or sys.stdout, patience=patience, title="Syncing project:")
        self._text = f"Syncing project ({size_text(size)}, {plural(count, 'file')})..."
        self._shown = ""

    def __enter__(self) -> Self:
        self._write_begun()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        on_terminal = self._out.isatty()
        if self._bar or (on_terminal and self._shown != self._text):
            # Of a bar nothing but the cursor is left where the line was.
            self._out.write(f"\r\x1b[K{self._text}")
        begun = "" if on_terminal else self._text
        self._out.write(begun + ("done\n" if error is None else "failed\n"))
        self._out.flush()

    def say(self, text: str) -> None:
        """Print `text` on stderr, above the line."""
        if self._bar:
            self._bar.stop()
            self._bar = None
        if self._out.isatty():
            self._out.write("\r\x1b[K")
            self._out.flush()
        notice(text)
        self._write_begun()

    def _write_begun(self) -> None:
        """Write on a terminal what fits of the line, so that it can be removed again."""
        if width := columns(self._out):
            self._shown = cut(self._text, width - 1)
            self._out.write(self._shown)
            self._out.flush()

    def _begin(self) -> "Progress":
        self._out.write("\r\x1b[K")
        return super()._begin()
