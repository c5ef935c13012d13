r"""Progress bars of one job below each other, such as tqdm's: each stays one line, however often it is drawn. Pure.

A program draws the second bar with `\n`, `\r`, the bar, and `ESC [ A`, which moves the cursor up again. Each drawing is
a line of the log. From the first move upwards on, the rows that can be drawn again are held here, until a line comes
that is none of them.
"""

import re

_UP = re.compile(r"\x1b\[(\d{0,2})A")
_MOST = 20  # rows; what moves further up is no stack of bars


def visible(text: str) -> str:
    r"""The part of a line that a terminal shows at the end, where `\r` lets parts overwrite each other."""
    if "\r" not in text:
        return text
    return next((part for part in reversed(text.split("\r")) if part), "")


class Rows:
    """The rows of a job that may be drawn again."""

    def __init__(self) -> None:
        self._rows: list[str] = []
        self._at = 0

    @property
    def shown(self) -> list[str]:
        """The rows as a terminal shows them, without empty ones."""
        return [row for row in self._rows if row.strip()]

    def feed(self, text: str) -> list[str]:
        """Take the text of the next line; the texts of lines that are final."""
        if not (_UP.search(text) or (self._rows and text.startswith("\r"))):
            return [*self.flush(), text]
        first, *moves = _UP.split(text)
        self._write(first)
        for count, piece in zip(moves[::2], moves[1::2], strict=True):
            self._at -= min(int(count or 1), _MOST)
            while self._at < 0:
                self._rows.insert(0, "")
                self._at += 1
            self._write(piece)
        self._at += 1
        over = max(0, len(self._rows) - _MOST)
        final = [row for row in self._rows[:over] if row.strip()]
        self._rows, self._at = self._rows[over:], max(0, self._at - over)
        return final

    def flush(self) -> list[str]:
        """The rows, which will not be drawn again."""
        rows, self._rows, self._at = self.shown, [], 0
        return rows

    def _write(self, text: str) -> None:
        if text:
            self._rows += [""] * (self._at + 1 - len(self._rows))
            self._rows[self._at] = visible(text)
