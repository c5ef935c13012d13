"""The answer to `Fetch`: lines of JSON, each followed by as many bytes as it announces."""

from collections.abc import Callable, Iterator

import msgspec

from riseml_proto.errors import DaemonError
from riseml_proto.file_messages import FileInfo


class FrameReader:
    """Reads the files of an answer one after another."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def info(self) -> FileInfo:
        """The next line. Raises `DaemonError` where the answer has ended or is no such line."""
        while b"\n" not in self._held:
            self._held += self._more()
        line, _, self._held = self._held.partition(b"\n")
        try:
            return msgspec.json.decode(line, type=FileInfo)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _nonsense() from None

    def content(self, size: int, advance: Callable[[int], None]) -> Iterator[bytes]:
        """The `size` bytes after the line; `advance` is called with how many were used. Raises as `info`."""
        while size:
            data = self._held or self._more()
            piece, self._held = data[:size], data[size:]
            size -= len(piece)
            yield piece
            advance(len(piece))

    def _more(self) -> bytes:
        if (piece := next(self._pieces, None)) is None:
            raise _nonsense()
        return piece


def _nonsense() -> DaemonError:
    return DaemonError("the daemon sent less than it announced; its log tells why")
