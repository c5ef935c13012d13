"""What jobs report: lines of JSON in a file in their output directory, of which the last value of each result counts.

Anything can write there, so nothing in it is believed, and reading costs milliseconds whatever it holds: what is no
JSON object, or holds no plain value, is passed over; of a long file only the beginning and the end are read, and of its
lines that are not as they should be only the last ones.
"""

import json
import math
import os
import stat
from collections.abc import Iterable, Iterator

import msgspec

from rised.linux.files import open_untrusted
from rised.users.impersonation import impersonating
from rised.users.owner import Owner

FILE = "riseml-results.jsonl"
"""Name of the file; the client's `riseml.results` has it, too."""
Value = str | int | float | bool | None
Results = dict[str, Value]

_NO_RESULTS = frozenset({"time", "step"})
_HEAD_BYTES = 64 << 10
_TAIL_BYTES = 1 << 20
_BLOCK = 1000  # lines that are decoded at once
_MOST_ODD = 5000
_LONGEST_ODD = 4096
_MOST_RESULTS = 100
_LONGEST = 200  # characters of a name, and of a text

_DECODER = msgspec.json.Decoder(Results)


def read(directory: str, owner: Owner) -> Results:
    """The results in its owner's output directory, by name, in the order of their first reports, if any."""
    try:
        with impersonating(owner):
            fd = open_untrusted(os.path.join(directory, FILE))
    except OSError:
        return {}
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return {}
        return last(_lines(fd, found.st_size))
    except OSError:
        return {}
    finally:
        os.close(fd)


def _lines(fd: int, size: int) -> list[bytes]:
    """The lines of a file, those in the middle of a long one left out."""
    if size <= _HEAD_BYTES + _TAIL_BYTES:
        return os.pread(fd, _HEAD_BYTES + _TAIL_BYTES, 0).split(b"\n")
    head = os.pread(fd, _HEAD_BYTES, 0).split(b"\n")
    tail = os.pread(fd, _TAIL_BYTES, size - _TAIL_BYTES).split(b"\n")
    return head[:-1] + tail[1:]


def last(lines: list[bytes]) -> Results:
    """The last value of each result that `lines` report."""
    reports = [*_reports(lines)]
    results: Results = {}
    for report in reversed(reports):
        results |= report
    return dict(list(_results(results))[:_MOST_RESULTS])


def _reports(lines: list[bytes]) -> Iterator[Results]:
    """What blocks of lines report, the last block first."""
    odd = _MOST_ODD
    for end in range(len(lines), 0, -_BLOCK):
        block = lines[max(0, end - _BLOCK) : end]
        merged: Results = {}
        try:
            for report in _DECODER.decode_lines(b"\n".join(block)):
                merged |= report
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            block, odd = block[-odd:] if odd else [], max(0, odd - len(block))
            for line in block:
                merged |= _odd(line)
        yield merged


def _odd(line: bytes) -> Results:
    """What a line reports that may be none, or hold more than results, or numbers that JSON does not have."""
    if not line.startswith(b"{") or len(line) > _LONGEST_ODD:
        return {}
    try:
        found = json.loads(line, parse_constant=str)
    except (ValueError, RecursionError):
        return {}
    return {
        _text(name): _text(value) if isinstance(value, str) else value
        for name, value in found.items()
        if value is None or isinstance(value, str | int | float)
    }


def _text(text: str) -> str:
    """`text` without what UTF-8 cannot write."""
    return text.encode(errors="replace").decode()


def _results(found: Results) -> Iterable[tuple[str, Value]]:
    """What of `found` can be stored, shown and compared."""
    for name, value in found.items():
        if name in _NO_RESULTS or not 0 < len(name) <= _LONGEST:
            continue
        if isinstance(value, str):
            yield name, value[:_LONGEST]
        elif isinstance(value, float) and math.isinf(value):
            yield name, "Infinity" if value > 0 else "-Infinity"
        elif isinstance(value, int) and value.bit_length() > 63:
            yield name, float(value) if value.bit_length() < 1000 else str(value)[:_LONGEST]
        else:
            yield name, value
