"""Paths of files as text in messages, and the paths that a revision may hold.

A file name on Linux is bytes. In a message it is text: unchanged where it is UTF-8 without `%`, otherwise with `%` and
each byte that is not UTF-8 written as `%XX`.
"""

import re

from riseml_proto.errors import SyncError

_ESCAPE = re.compile(r"%([0-9A-F]{2})")


def quote(path: bytes) -> str:
    """The text that stands for `path` in a `File`."""
    text = path.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def unquote(text: str) -> bytes:
    """The path that `text` stands for. Raises `SyncError` where `text` cannot come from `quote`."""
    if text.count("%") != len(_ESCAPE.findall(text)):
        raise SyncError(f"{text!r}: a % in a path must be followed by two upper-case hex digits")
    try:
        raw = _ESCAPE.sub(
            lambda m: chr(0xDC00 + int(m[1], 16)) if m[1] >= "80" else chr(int(m[1], 16)), text
        )
        return raw.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise SyncError(f"{text!r}: not a path: {error.reason}") from None


def check(path: bytes) -> None:
    """Raise `SyncError` unless `path` stays in its project and could be a file in a git tree."""
    parts = path.split(b"/")
    if b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise SyncError(f"{quote(path)!r}: this path leaves the project or is empty")
    if any(part.lower() == b".git" for part in parts):
        raise SyncError(f"{quote(path)!r}: .git does not belong to a revision")
