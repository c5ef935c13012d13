"""What jobs report: lines of JSON in a file in their output directory, of which the last value of each result counts.

Anything can write there, so nothing in it is believed: what is no JSON object, or holds no plain value, is passed over.
"""

import os
import stat
from collections.abc import Iterable

import msgspec

FILE = "riseml-results.jsonl"
"""Name of the file; the client's `riseml.results` has it, too."""
Value = str | int | float | bool | None

_NO_RESULTS = frozenset({"time", "step"})
_MOST_BYTES = 4 << 20
"""Of a longer file only so much of its end is read."""
_MOST_RESULTS = 100
_LONGEST = 200  # characters of a name, and of a text


def read(directory: str) -> dict[str, Value]:
    """The results in an output directory, by name, in the order of their last reports; none where there is no file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(os.path.join(directory, FILE), flags)
    except OSError:
        return {}
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return {}
        start = max(0, found.st_size - _MOST_BYTES)
        data = os.pread(fd, _MOST_BYTES, start)
    except OSError:
        return {}
    finally:
        os.close(fd)
    lines = data.split(b"\n")
    return last(lines[1:] if start else lines)


def last(lines: Iterable[bytes]) -> dict[str, Value]:
    """The last value of each result that `lines` report."""
    results: dict[str, Value] = {}
    for line in lines:
        for name, value in _report(line).items():
            if name in results or len(results) < _MOST_RESULTS:
                results[name] = value
    return results


def _report(line: bytes) -> dict[str, Value]:
    if not line.strip():
        return {}
    try:
        found = msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {
        name: value[:_LONGEST] if isinstance(value, str) else value
        for name, value in found.items()
        if name not in _NO_RESULTS
        and 0 < len(name) <= _LONGEST
        and (value is None or isinstance(value, str | int | float))
    }
