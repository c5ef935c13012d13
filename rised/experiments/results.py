"""The results that jobs report: lines of JSON in a file in the output directory. The last value of each result counts.

Anything can write there, so nothing in it is trusted, and reading costs milliseconds whatever it holds. A line that is
no JSON object is passed over, and so is a value that is not plain. Of a long file only the beginning and the end are
read, and of the malformed lines only the last ones.
"""

import json
import math
import os
import stat
from collections.abc import Iterable, Iterator

import msgspec

from rised.linux.files import READ_UNTRUSTED
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
_MOST_MALFORMED = 5000
_LONGEST_MALFORMED = 4096
_MOST_RESULTS = 100
_LONGEST = 200  # characters of a name, and of a text

_DECODER = msgspec.json.Decoder(Results)


def read(directory: str, owner: Owner) -> Results:
    """The results by name, in the order of their first reports, from an output directory that is `owner`'s."""
    return last(_lines(directory, owner))


def history(directory: str, owner: Owner, name: str) -> list[Value]:
    """All values of one result that were reported there, in order."""
    values = []
    for line in _lines(directory, owner):
        if os.fsencode(name) in line or b"\\" in line:
            reported = dict(_results(last([line])))
            if name in reported:
                values.append(reported[name])
    return values


def _lines(directory: str, owner: Owner) -> list[bytes]:
    """The lines of the file of results; none where there is no such file."""
    try:
        with impersonating(owner):
            fd = os.open(os.path.join(directory, FILE), READ_UNTRUSTED)
    except OSError:
        return []
    try:
        status = os.fstat(fd)
        return _split(fd, status.st_size) if stat.S_ISREG(status.st_mode) else []
    except OSError:
        return []
    finally:
        os.close(fd)


def _split(fd: int, size: int) -> list[bytes]:
    """The lines of a file, those in the middle of a long one left out."""
    if size <= _HEAD_BYTES + _TAIL_BYTES:
        return os.pread(fd, _HEAD_BYTES + _TAIL_BYTES, 0).split(b"\n")
    head = os.pread(fd, _HEAD_BYTES, 0).split(b"\n")
    tail = os.pread(fd, _TAIL_BYTES, size - _TAIL_BYTES).split(b"\n")
    return head[:-1] + tail[1:]


def last(lines: list[bytes]) -> Results:
    """The last value of each result in `lines`."""
    reports = [*_reports(lines)]
    results: Results = {}
    for report in reversed(reports):
        results |= report
    return dict(list(_results(results))[:_MOST_RESULTS])


def _reports(lines: list[bytes]) -> Iterator[Results]:
    """The results of each block of lines, the last block first."""
    left = _MOST_MALFORMED
    for end in range(len(lines), 0, -_BLOCK):
        block = lines[max(0, end - _BLOCK) : end]
        merged: Results = {}
        try:
            for report in _DECODER.decode_lines(b"\n".join(block)):
                merged |= report
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            block, left = block[-left:] if left else [], max(0, left - len(block))
            for line in block:
                merged |= _malformed(line)
        yield merged


def _malformed(line: bytes) -> Results:
    """The results of a malformed line: one that holds more than plain values, or numbers that JSON does not have."""
    if not line.startswith(b"{") or len(line) > _LONGEST_MALFORMED:
        return {}
    try:
        report = json.loads(line, parse_constant=str)
    except (ValueError, RecursionError):
        return {}
    return {
        _text(name): _text(value) if isinstance(value, str) else value
        for name, value in report.items()
        if value is None or isinstance(value, str | int | float)
    }


def _text(text: str) -> str:
    """`text` with `?` for each character that UTF-8 cannot write."""
    return text.encode(errors="replace").decode()


def _results(reported: Results) -> Iterable[tuple[str, Value]]:
    """The results that can be stored, shown and compared."""
    for name, value in reported.items():
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
