"""The daemon's own log: one line of `key=value` pairs per event, through the standard library's `logging`.

Warnings of trio, asyncio, aiodocker and other libraries stand in the same log; `logger` names the library. Lines go to
standard error, or to a file. With a file, standard output and error lead there as well, so that Python's tracebacks are
in it. A full file is moved aside, and one that somebody has removed is made anew.

The log never stops the daemon: a line that cannot be written, as on a full disk, is dropped.
"""

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from riseml_proto.errors import InvalidInput
from riseml_proto.file_kinds import wrong_kind

MAX_BYTES = 5 << 20
"""A larger file becomes FILE.1, in the place of an older one."""
LOOK_SECONDS = 1.0
"""Pause between two looks at the file's size, and at whether it is still there."""
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:,@+")
_STDOUT, _STDERR = 1, 2
_WAY_OUT = "; move it away, or name another file"


class Log(logging.LoggerAdapter[logging.Logger]):
    """Writes events. `time=… level=info event="job started" job=144.2.train`.

    `info`: what an administrator may want to know. `warning`: what works less well than it should. `error`: what
    someone should look at. Their keyword arguments are the facts of the event.
    """

    def process(self, msg: str, kwargs: MutableMapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Hand the facts on to the formatter."""
        return msg, {"extra": {"facts": kwargs}}


log = Log(logging.getLogger("rised"))


class KeyValueFormatter(logging.Formatter):
    """Turns a record into one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Begin with `time`, `level` and `event`; a record of a library has `logger`, and may have `traceback`."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        pairs: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": _message(record),
        }
        if record.name != "rised":
            pairs["logger"] = record.name
        pairs.update(getattr(record, "facts", {}))
        if record.exc_info:
            pairs["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_value(value)}" for key, value in pairs.items())


class StderrHandler(logging.Handler):
    """Writes lines to standard error, and keeps the file small that standard error may be."""

    def __init__(self, path: str | None = None) -> None:
        """With a path, standard output and error are this file from now on. Raises `OSError`."""
        super().__init__()
        self.setFormatter(KeyValueFormatter())
        self._path = path
        self._look_at = 0.0
        if path is not None:
            _lead_to(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        if self._path is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._keep_small(self._path)
        line = self.format(record) + "\n"
        with contextlib.suppress(OSError):
            os.write(_STDERR, line.encode("utf-8", "backslashreplace"))

    def _keep_small(self, path: str) -> None:
        """Move the file aside when it is full, and make one where there is none. Where that fails, nothing changes."""
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(path)
                if os.path.samestat(stat, os.fstat(_STDERR)):
                    if stat.st_size < MAX_BYTES:
                        return
                    os.replace(path, f"{path}.1")
            _lead_to(path)


def _lead_to(path: str) -> None:
    """Make standard output and error the file `path`. Raises `OSError`, for a FIFO too: it would hold the daemon up."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a FIFO that nobody reads, or a socket
            _require_file(os.stat(path), path)
        raise
    try:
        _require_file(os.fstat(fd), path)
        os.set_blocking(fd, True)
        os.dup2(fd, _STDOUT)
        os.dup2(fd, _STDERR)
    finally:
        os.close(fd)


def _require_file(status: os.stat_result, path: str) -> None:
    if wrong := wrong_kind(status.st_mode, status.st_rdev):
        raise OSError(errno.EINVAL, wrong, path)


def start(path: str | None = None) -> None:
    """Write all events to standard error, or to the file `path`. Raises `InvalidInput` where there can be none."""
    try:
        handler = StderrHandler(path)
    except OSError as error:
        way_out = _WAY_OUT if error.errno in (errno.EINVAL, errno.EISDIR) else ""
        raise InvalidInput(f"--log-file: {path}: {error.strerror}{way_out}") from None
    if path is not None and os.path.isdir(f"{path}.1"):  # the log would grow without end
        text = "is a directory, and a full log gets this name"
        raise InvalidInput(f"--log-file: {path}.1: {text}{_WAY_OUT}")
    logging._srcfile = None  # as its manual says: nobody looks for the caller, which takes long
    logging.captureWarnings(True)
    logging.getLogger("rised").setLevel(logging.INFO)
    logging.root.handlers[:] = [handler]


def _message(record: logging.LogRecord) -> str:
    """What a record says; a library's format and its arguments may not fit each other."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def _value(value: object) -> str:
    text = str(value)
    if text and set(text) <= _PLAIN:
        return text
    # What would do something to a terminal, or is no character at all, is escaped.
    return json.dumps(text, ensure_ascii=not text.isprintable())
