"""The answer to `Fetch`: lines of JSON, each followed by as many bytes as it announces."""

from collections.abc import Iterator
from typing import NoReturn

import msgspec

from riseml_proto.errors import DaemonError
from riseml_proto.file_messages import FileInfo


class FrameReader:
    """Reads the files of an answer one after another."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0

    def info(self) -> FileInfo:
        """The next line. Raises `DaemonError` where the answer has ended or is no such line."""
        while (end := self._held.find(b"\n", self._at)) < 0:
            self._more()
        line, self._at = self._held[self._at : end], end + 1
        try:
            return msgspec.json.decode(line, type=FileInfo)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._nonsense()

    def content(self, size: int) -> Iterator[memoryview]:
        """The `size` bytes after the line. Raises as `info`."""
        while size:
            if self._at == len(self._held):
                self._held, self._at = b"", 0
                self._more()
            piece = memoryview(self._held)[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def _more(self) -> None:
        for piece in self._pieces:
            self._held = self._held[self._at :] + piece if self._at < len(self._held) else piece
            self._at = 0
            return
        self._nonsense()

    def _nonsense(self) -> NoReturn:
        raise DaemonError("the daemon sent less than it announced; its log tells why")
