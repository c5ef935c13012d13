"""Bytes of a log, cut into lines. Pure.

    line     ends with \\n or \\r\\n. A \\r alone is part of its text, like everything else that a terminal acts on
    piece    a part of a line longer than 64 KiB, so that no line needs more memory here; who shows lines joins them
    partial  what follows the end of the last line; it becomes a line when its job has ended

Lines depend on the bytes alone, not on the portions in which they were read. So a reader that goes on at the `end` of a
line gets what it would have got without a break.
"""

from typing import NamedTuple

LIMIT = 65536
"""Bytes of text in a line; a longer line is sent in pieces."""


class Line(NamedTuple):
    """A line, or a piece of one: the bytes from `start` to `end` of its log. `text` lacks the line end."""

    start: int
    end: int
    time_ms: int
    text: bytes
    more: bool = False
    """Whether it is a piece that is not its line's last."""


class Splitter:
    """Cuts bytes into lines, in whatever portions they arrive."""

    def __init__(self, offset: int = 0) -> None:
        """`offset`: the position of the first byte in the log."""
        self._data = b""
        self._at = 0
        self._offset = offset

    @property
    def start(self) -> int:
        """The offset in the log at which the next line begins."""
        return self._offset + self._at

    @property
    def end(self) -> int:
        """The offset in the log of the first byte that was not fed."""
        return self._offset + len(self._data)

    @property
    def partial(self) -> bytes:
        """The bytes that are not part of a line yet; valid after `next` has returned None."""
        return self._data[self._at :]

    def feed(self, data: bytes) -> None:
        """Add the bytes that follow."""
        self._data = self._data[self._at :] + data
        self._offset += self._at
        self._at = 0

    def next(self, *, final: bool = False) -> tuple[int, bytes, bool] | None:
        """End and text of the next line or piece, and whether the line goes on; None if there is none yet.

        `final`: no more bytes will come.
        """
        data, at = self._data, self._at
        # A text of exactly LIMIT bytes may be followed by \r\n.
        newline = data.find(b"\n", at, at + LIMIT + 2)
        if newline >= 0:
            stop = newline - 1 if newline > at and data[newline - 1] == 13 else newline
            if stop - at <= LIMIT:
                self._at = newline + 1
                return self.start, data[at:stop], False
        rest, more = len(data) - at, False
        if rest >= LIMIT + 2 or newline >= 0 or (final and rest > LIMIT):
            self._at, more = _cut(data, at), True
        elif final and rest:
            self._at = len(data)
        else:
            return None
        return self.start, data[at : self._at], more


def _cut(data: bytes, at: int) -> int:
    """The end of the first piece of the long line at `at`: not after a \\r, and not inside a character."""
    cut = at + LIMIT
    if data[cut - 1] == 13:
        return cut - 1
    for back in range(4):
        if data[cut - back] & 0xC0 != 0x80:
            return cut - back if data[cut - back] >= 0xC0 else cut
    return cut
