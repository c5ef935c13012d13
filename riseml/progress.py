"""Progress of a sync or a copy: `Syncing project (1.3 MB, 7 files)...done`, and bars on terminals."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 0.3
"""Seconds before a bar appears: a quick sync should not flicker."""
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


class _Bar:
    """A progress bar on `out`, for use in a `with`; none where that is no terminal, or it is done soon."""

    def __init__(self, out: TextIO, patience: float) -> None:
        """`patience`: seconds before the bar appears."""
        self._out = out
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._total = self._done = 0
        self._due = time.monotonic() + patience
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, amount: int) -> None:
        """Count `amount` bytes more as done."""
        self._done += amount
        if self._live and (now := time.monotonic()) >= self._due:
            self._due = now + _REFRESH
            self._bar = self._bar or self._begin()
            self._bar.update(self._bar.task_ids[0], completed=self._done, refresh=True)

    def _begin(self) -> "Progress":
        raise NotImplementedError

    def _progress(self, *columns: Any, **fields: Any) -> "Progress":
        from rich.console import Console  # takes 80 ms, and only what takes long needs it
        from rich.progress import Progress

        console = Console(file=self._out)
        bar = Progress(*columns, console=console, transient=True, auto_refresh=False)
        bar.add_task(**fields, total=self._total, completed=self._done)
        bar.start()
        return bar


class SyncLine(_Bar):
    """The line of a sync, for use in a `with`: it is begun there, and ended by `done` or `failed`.

    A progress bar stands in its place while a slow sync goes on. The line that stays is the same to
    the character. Where `out` is no terminal the line is written whole, at the end: `out` may be one
    of the project's own files (`riseml train | tee train.log`), which must not change while it is
    synced.
    """

    def __init__(
        self, size: int, count: int, out: TextIO | None = None, *, patience: float = PATIENCE
    ) -> None:
        """Of `count` files with `size` bytes; written to `out`, by default stdout."""
        super().__init__(out or sys.stdout, patience)
        self._text = f"Syncing project ({size_text(size)}, {plural(count, 'file')})..."
        self._step = ""

    def __enter__(self) -> Self:
        if self._out.isatty():
            self._out.write(self._text)
            self._out.flush()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if self._bar:  # it has left nothing on the screen but the cursor where the line was
            self._out.write(f"\r\x1b[K{self._text}")
        begun = "" if self._out.isatty() else self._text
        self._out.write(begun + ("done\n" if error is None else "failed\n"))
        self._out.flush()

    def start(self, step: str, total: int) -> None:
        """Begin a `step` (`reading`, `sending`) that has to deal with `total` bytes."""
        self._step, self._total, self._done = step, total, 0
        if self._bar:
            self._bar.reset(self._bar.task_ids[0], total=total, step=step)

    def _begin(self) -> "Progress":
        from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

        self._out.write("\r\x1b[K")
        label = "{task.description} {task.fields[step]}"
        columns = label, BarColumn(), DownloadColumn(), TransferSpeedColumn()
        return self._progress(*columns, description="Syncing project:", step=self._step)


class CopyBar(_Bar):
    """The progress bar of `riseml cp`, on stderr."""

    def __init__(self, out: TextIO | None = None, *, patience: float = PATIENCE) -> None:
        super().__init__(out or sys.stderr, patience)

    def expect(self, total: int) -> None:
        """Set the number of bytes that will be copied."""
        self._total = total

    def skip(self, amount: int) -> None:
        """Count `amount` bytes that an earlier copy has brought."""
        self._done += amount

    def watch(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """`pieces`, each counted as done when the next one is taken."""
        for piece in pieces:
            yield piece
            self.advance(len(piece))

    def _begin(self) -> "Progress":
        from rich import progress

        columns = (
            *(progress.BarColumn(), progress.DownloadColumn()),
            *(progress.TransferSpeedColumn(), progress.TimeRemainingColumn()),
        )
        return self._progress(*columns, description="")
