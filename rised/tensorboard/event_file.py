"""A run's parameters and results as TensorBoard's events, from which it makes its HPARAMS tab and its scalars."""

import os
import stat
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from rised.linux.files import READ_UNTRUSTED

_CHUNK = 1 << 20
_STEPS = 2.0**63


class EventFile:
    """The event file that we write for one run, beside those that its job may write."""

    def __init__(self, directory: str, params: Mapping[str, Any]) -> None:
        """Begin the file with the parameters."""
        self._path = os.path.join(directory, f"events.out.tfevents.{int(time.time())}.riseml")
        self._offset = 0
        self._reports = 0
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        numbers = {name: _number(str(value)) for name, value in params.items()}
        started = hparams_pb(numbers, trial_id=os.path.basename(directory))
        self._write(Event(wall_time=time.time(), summary=started))

    def follow(self, path: str) -> None:
        """Take over what was reported in the results file `path` since the last call."""
        try:
            fd = os.open(path, READ_UNTRUSTED)
        except OSError:
            return
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return
            while data := os.pread(fd, _CHUNK, self._offset):
                whole = data.rfind(b"\n") + 1
                if not whole and len(data) < _CHUNK:
                    return
                for line in data[:whole].splitlines():
                    self._report(line)
                self._offset += whole or len(data)
        except OSError:
            return
        finally:
            os.close(fd)

    def _report(self, line: bytes) -> None:
        try:
            report = msgspec.json.decode(line, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        self._reports += 1
        step = _as_float(report.pop("step", None))
        if step is None or not abs(step) < _STEPS:
            step = self._reports
        wall_time = _seconds(report.pop("time", None))
        numbers = ((name, _as_float(value)) for name, value in report.items())
        values = [
            Summary.Value(tag=name, simple_value=number)
            for name, number in numbers
            if number is not None
        ]
        if values:
            event = Event(wall_time=wall_time, step=int(step), summary=Summary(value=values))
            self._write(event)

    def _write(self, event: Event) -> None:
        with open(self._path, "ab") as file:
            RecordWriter(file).write(event.SerializeToString())


def _as_float(value: object) -> float | None:
    """A number or a truth value as a float; None for anything else, and for what no float can hold."""
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _number(text: str) -> float | str:
    """A value as a number where it reads as one, so that it can be ordered."""
    try:
        return float(text)
    except ValueError:
        return text


def _seconds(text: object) -> float:
    """A time as seconds since the epoch; now, where it is none."""
    try:
        return msgspec.convert(text, datetime).timestamp()
    except msgspec.ValidationError:
        return time.time()
