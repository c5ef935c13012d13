"""The daemon's own log: one line of `key=value` pairs per event, through the standard library's `logging`.

Warnings of trio, asyncio, aiodocker and other libraries stand in the same log; `logger` names the library. Lines go to
standard error, or to a file. With a file, standard output and error lead there as well, so that Python's tracebacks are
in it. A full file is moved aside, and one that somebody has removed is made anew.

The log never stops the daemon: a line that cannot be written, as on a full disk, is dropped.
"""

import contextlib
import json
import logging
import os
import time
from datetime import UTC, datetime

from riseml_proto.errors import InvalidInput

MAX_BYTES = 5 << 20
"""A larger file becomes FILE.1, in the place of an older one."""
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:,@+")
_STDOUT, _STDERR = 1, 2


class Log:
    """Writes events. `time=… level=info event="job started" job=144.2.train`."""

    def __init__(self, name: str) -> None:
        """`name` is that of a logger of the standard library."""
        self._logger = logging.getLogger(name)

    def info(self, event: str, **facts: object) -> None:
        """Something that an administrator may want to know."""
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something that works less well than it should."""
        self._write(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Something that someone should look at."""
        self._write(logging.ERROR, event, facts)

    def _write(self, level: int, event: str, facts: dict[str, object]) -> None:
        logger = self._logger
        if logger.isEnabledFor(level):
            logger.handle(_Event(logger.name, level, event, facts))


log = Log("rised")


_LEFT_OUT: dict[str, object] = {
    **dict.fromkeys(
        ("pathname", "filename", "module", "funcName", "threadName", "processName"), ""
    ),
    **dict.fromkeys(("lineno", "thread", "process", "msecs", "relativeCreated"), 0),
    **dict.fromkeys(("args", "exc_info", "exc_text", "stack_info")),
}


class _Event(logging.LogRecord):
    """An event of our own, without what this log does not show, such as the caller, who takes long to find."""

    def __init__(self, name: str, level: int, event: str, facts: dict[str, object]) -> None:
        self.__dict__.update(_LEFT_OUT)
        self.name, self.levelno, self.levelname = name, level, logging.getLevelName(level)
        self.msg, self.facts, self.created = event, facts, time.time()


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
        self._file: tuple[int, int] | None = None
        if path is not None:
            self._open(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        if self._path is not None:
            self._keep_small(self._path)
        line = self.format(record) + "\n"
        with contextlib.suppress(OSError):
            os.write(_STDERR, line.encode("utf-8", "backslashreplace"))

    def _keep_small(self, path: str) -> None:
        """Move the file aside when it is full, and make one where there is none. Where that fails, nothing changes."""
        with contextlib.suppress(OSError):
            try:
                stat = os.stat(path)
                is_ours = (stat.st_dev, stat.st_ino) == self._file
            except FileNotFoundError:
                is_ours = False
            if is_ours:
                if stat.st_size < MAX_BYTES:
                    return
                os.replace(path, f"{path}.1")
            self._open(path)

    def _open(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        fd = os.open(path, flags, 0o600)
        try:
            stat = os.fstat(fd)
            os.dup2(fd, _STDOUT)
            os.dup2(fd, _STDERR)
        finally:
            os.close(fd)
        self._file = stat.st_dev, stat.st_ino


def start(path: str | None = None) -> None:
    """Write all events to standard error, or to the file `path`. Raises `InvalidInput` where there can be none."""
    try:
        handler = StderrHandler(path)
    except OSError as error:
        raise InvalidInput(f"--log-file: {path}: {error.strerror}") from None
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
