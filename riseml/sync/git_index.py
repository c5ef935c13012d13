"""The paths in git's index, which are the files that git tracks, where git itself cannot be asked.

The format is that of gitformat-index(5), versions 2 to 4. What is no such file, or is damaged, holds no paths.
"""

import struct

_HEADER = struct.Struct(">4sII")
_FLAGS_AT = 60  # bytes of an entry before its flags: times, identity, mode, size and the SHA-1
_EXTENDED = 0x4000


def paths(index: bytes) -> list[bytes]:
    """The paths in the content of an index, sorted, relative to the top of the work tree."""
    found: list[bytes] = []
    if len(index) < _HEADER.size:
        return found
    magic, version, count = _HEADER.unpack_from(index)
    if magic != b"DIRC" or version not in (2, 3, 4):
        return found
    at, path = _HEADER.size, b""
    for _ in range(count):
        flags = index[at + _FLAGS_AT : at + _FLAGS_AT + 2]
        if len(flags) < 2:
            break
        start = at + _FLAGS_AT + (4 if int.from_bytes(flags) & _EXTENDED else 2)
        kept = 0
        if version == 4:
            cut, start = _offset(index, start)
            kept = len(path) - cut
        end = index.find(b"\0", start)
        if end < 0 or kept < 0:
            break
        path = path[:kept] + index[start:end]
        found.append(path)
        at = end + 1 if version == 4 else at + (end - at + 8) // 8 * 8
    return sorted(set(found))  # a file in conflict has up to three entries


def _offset(index: bytes, at: int) -> tuple[int, int]:
    """The number at `at` in git's encoding with seven bits a byte, and where it ends."""
    byte = index[at] if at < len(index) else 0
    value = byte & 127
    while byte & 128:
        at += 1
        byte = index[at] if at < len(index) else 0
        value = (value + 1 << 7) | byte & 127
    return value, at + 1
