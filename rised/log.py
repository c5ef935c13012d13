"""The daemon's own log: one line of `key=value` pairs per event on standard error, as systemd's journal likes them."""

import contextlib
import json
import sys
from datetime import UTC, datetime

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:,@+")


def _value(value: object) -> str:
    text = str(value)
    if text and set(text) <= _PLAIN:
        return text
    # What would do something to a terminal, or is no character at all, is escaped.
    return json.dumps(text, ensure_ascii=not text.isprintable())


class Log:
    """Writes events. `time=… level=info event="job started" job=144.2.train`."""

    def info(self, event: str, **facts: object) -> None:
        """Something that an administrator may want to know."""
        self._write("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something that works less well than it should."""
        self._write("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Something that someone should look at."""
        self._write("error", event, facts)

    def _write(self, level: str, event: str, facts: dict[str, object]) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pairs = {"time": time, "level": level, "event": event, **facts}
        line = " ".join(f"{key}={_value(value)}" for key, value in pairs.items())
        with contextlib.suppress(OSError):  # its disk may be full too; the daemon goes on
            sys.stderr.write(line + "\n")


log = Log()
