"""The line that tells how a sync goes: `Syncing project (1.3 MB, 7 files)...done`.

Where it goes to a terminal and takes a while, a progress bar stands in its place meanwhile; the
line that stays is the same to the character.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 0.3
"""Seconds before a bar appears: a quick sync should not flicker."""
_REFRESH = 0.1  # seconds between two pictures of it


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


class SyncLine:
    """Use it in a `with`: the line begins with that and ends with it, in `done` or `failed`.

    Where it does not go to a terminal it is written at the end, whole: what it goes to may be one of the project's own
    files (`riseml train | tee train.log`), which must not change while it is synced.
    """

    def __init__(
        self, size: int, count: int, out: TextIO | None = None, *, patience: float = PATIENCE
    ) -> None:
        """Of `count` files with `size` bytes; written to `out`, by default stdout."""
        self._out = out or sys.stdout
        self._text = f"Syncing project ({size_text(size)}, {plural(count, 'file')})..."
        self._live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._total = self._done = 0
        self._step = ""
        self._due = time.monotonic() + patience
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._out.isatty():
            self._out.write(self._text)
            self._out.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()  # it leaves nothing on the screen but the cursor where the line was
            self._out.write(f"\r\x1b[K{self._text}")
        begun = "" if self._out.isatty() else self._text
        self._out.write(begun + ("done\n" if error is None else "failed\n"))
        self._out.flush()

    def start(self, step: str, total: int) -> None:
        """Begin a `step` (`reading`, `sending`) that has to deal with `total` bytes."""
        self._step, self._total, self._done = step, total, 0
        if self._bar:
            self._bar.reset(self._bar.task_ids[0], total=total, step=step)

    def advance(self, amount: int) -> None:
        """`amount` bytes more are dealt with."""
        self._done += amount
        if self._live and (now := time.monotonic()) >= self._due:
            self._due = now + _REFRESH
            self._draw()

    def _draw(self) -> None:
        if not self._bar:
            from rich.console import Console  # costs 80 ms, and only a long sync needs it
            from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

            self._out.write("\r\x1b[K")
            self._bar = Progress(
                "{task.description} {task.fields[step]}",
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=Console(file=self._out),
                transient=True,
                auto_refresh=False,
            )
            self._bar.add_task("Syncing project:", total=self._total, step=self._step)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=self._done, refresh=True)


class CopyBar:
    """A bar on stderr for as long as something is copied; none where that is no terminal, or it is done quickly."""

    def __init__(self, out: TextIO | None = None, *, patience: float = PATIENCE) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._total = self._done = 0
        self._due = time.monotonic() + patience
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def expect(self, total: int) -> None:
        """So many bytes will be copied."""
        self._total = total

    def skip(self, amount: int) -> None:
        """`amount` bytes were there from the last time."""
        self._done += amount

    def advance(self, amount: int) -> None:
        """`amount` bytes more are copied."""
        self._done += amount
        if self._live and (now := time.monotonic()) >= self._due:
            self._due = now + _REFRESH
            self._draw()

    def watch(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """`pieces`, each counted when the next one is asked for."""
        for piece in pieces:
            yield piece
            self.advance(len(piece))

    def _draw(self) -> None:
        if not self._bar:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bar = Progress(
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._out),
                transient=True,
                auto_refresh=False,
            )
            self._bar.add_task("", total=self._total, completed=self._done)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=self._done, refresh=True)
