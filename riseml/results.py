"""Writes results as lines of JSON into the job's output directory, without a socket or network.

One report is one line `{"time": "2017-08-30T09:59:06.120Z", "accuracy": 0.93}`. It is appended by
one write, so that several processes of a job can report at the same time and a crash leaves whole
lines. This file and the package's `__init__` run in the job's own Python, 3.6 or newer; therefore
types are in quotes.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress

FILE = "riseml-results.jsonl"


def append(results: "Mapping[str, object]") -> None:
    """Append `results` to the file in $OUTPUT_DIR, if that is set. Raises as `report_result`."""
    line = encode(results, time.time())
    directory = os.environ.get("OUTPUT_DIR")
    if not directory:
        return
    file = os.open(
        os.path.join(directory, FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666
    )
    try:
        if os.write(file, line) < len(line):
            raise OSError(f"{directory}/{FILE}: the disk is full; the result was recorded in part")
    finally:
        os.close(file)


def encode(results: "Mapping[str, object]", now: float) -> bytes:
    """The line for `results` reported at `now`, in seconds of Unix time. Raises `TypeError`."""
    if "time" in results:
        raise TypeError(
            "report_result() cannot take a result named 'time': the time is recorded for you"
        )
    seconds, milliseconds = divmod(int(now * 1000), 1000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"
    line = {"time": stamp, **{name: _plain(name, value) for name, value in results.items()}}
    return json.dumps(line, allow_nan=False).encode() + b"\n"


def _plain(name: str, value: object) -> "str | int | float | bool | None":
    item = getattr(value, "item", None)  # a scalar of numpy or torch
    if callable(item):
        # For an array each library raises an error of its own; the array is refused below.
        with suppress(TypeError, ValueError, RuntimeError):
            value = item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (str, int, float)):
        return value
    kind = type(value).__name__
    raise TypeError(
        f"report_result(): {name} must be a number, a text or a truth value, not {kind}"
    )
