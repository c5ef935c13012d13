"""Watches the logs of running jobs, and stamps their growth with the time.

The kernel reports growth (inotify, on the logs' directories), so nothing here runs while no job writes. Logs that grow
without a pause are looked at a limited number of times a second: the watcher takes at most about a tenth of a
processor. The kernel limits watches per user, and editors use many. A log for which it has no watch left is looked at
twice a second instead.
"""

import ctypes
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

import trio

from rised.linux.files import stat_regular
from rised.logs import stamps
from rised.logs.stamps import Stamp

_PAUSE = 0.005
"""Seconds between two looks at logs that keep growing; the first write after a pause is seen at once."""
_SHARE = 9
"""The pause after a look is at least so many times as long as the look."""
_UNWATCHED_PAUSE = 0.5
_SPARE_DIRECTORIES = 64
"""Directories that stay watched without a log in them. The next job of the same set has its log there, and to keep a
watch costs less than to remove and make it."""

_IN_MODIFY = 0x2
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """One log that is watched. `size`: how many of its bytes have been stamped."""

    def __init__(self, watcher: "LogWatcher", log: str, notify: Callable[[], None]) -> None:
        self.size = 0
        self._watcher = watcher
        self._log = log
        self._notify = notify
        self._time_ms = 0
        watcher._register(log, self)
        # What is there already was written while no daemon watched, or right after the job began: in a container that
        # takes microseconds, and followers have looked before.
        status = stat_regular(self._log)
        if status is not None and status.st_size:
            stamped = stamps.last(log)
            if stamped is not None and stamped.end <= status.st_size:
                self.size, self._time_ms = stamped
            if self._stamp(status.st_size, status.st_mtime_ns // 1_000_000):
                notify()

    def look(self) -> None:
        """Stamp what was written since the last look, and notify if there is anything."""
        if self._look():
            self._notify()

    def close(self) -> None:
        """Stamp the rest and stop watching. The job has ended: nothing writes to the log any more."""
        self._look()
        self._watcher._forget(self._log, self)

    def _look(self) -> bool:
        status = stat_regular(self._log)
        return status is not None and self._stamp(status.st_size, time.time_ns() // 1_000_000)

    def _stamp(self, size: int, time_ms: int) -> bool:
        """Stamp a log of `size` bytes; return whether its size has changed since the last stamp."""
        if size == self.size:
            return False
        if size < self.size:
            # The job cut its own log short: all that it holds now is new.
            self.size = 0
        if size:
            self._time_ms = max(self._time_ms, time_ms)
            # On a full disk this stamp is lost, and the next one covers its bytes, too.
            with suppress(OSError):
                stamps.append(self._log, Stamp(size, self._time_ms), anew=self.size == 0)
        self.size = size
        return True


class LogWatcher:
    """Watches any number of logs, as long as `run` runs."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._directories: OrderedDict[str, _Directory] = OrderedDict()
        self._by_number: dict[int, _Directory] = {}
        self._unwatched: set[Watch] = set()
        self._any_unwatched = trio.Event()

    def add(self, log_path: str, notify: Callable[[], None]) -> Watch:
        """Watch `log_path` until `Watch.close`, and call `notify` each time that it has grown.

        Bytes after its last stamp get the file's modification time. Each log is watched once at most.
        """
        return Watch(self, log_path, notify)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stamp the growth of all watched logs until cancelled. Nothing is stamped without this."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_at_unwatched)
                if self._fd >= 0:
                    nursery.start_soon(self._follow_kernel)
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    async def _follow_kernel(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            began = time.perf_counter()
            for watch in self._changed():
                watch.look()
            await trio.sleep(max(_PAUSE, _SHARE * (time.perf_counter() - began)))

    def _changed(self) -> list[Watch]:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return []
        changed: dict[Watch, None] = {}
        at = 0
        while at < len(data):
            number, mask, _, name_size = _EVENT.unpack_from(data, at)
            at += _EVENT.size + name_size
            if mask & _IN_Q_OVERFLOW:
                return [w for each in self._directories.values() for w in each.logs.values()]
            directory = self._by_number.get(number)
            if directory is not None and mask & _IN_IGNORED:
                self._lose(directory)
            elif directory is not None and name_size:
                name = data[at - name_size : at].rstrip(b"\0")
                # A name without a watch belongs to another file, or to a log that was closed since.
                if watch := directory.logs.get(name):
                    changed[watch] = None
        return list(changed)

    async def _look_at_unwatched(self) -> None:
        while True:
            await self._any_unwatched.wait()
            for watch in list(self._unwatched):
                watch.look()
            await trio.sleep(_UNWATCHED_PAUSE)

    def _register(self, log: str, watch: Watch) -> None:
        path, name = os.path.split(log)
        directory = self._directories.get(path) or self._watch(path)
        if directory is None:
            self._unwatched.add(watch)
            self._any_unwatched.set()
        elif directory.logs.setdefault(os.fsencode(name), watch) is not watch:
            raise ValueError(f"{log} is watched already")

    def _watch(self, path: str) -> "_Directory | None":
        if self._fd < 0:
            return None
        number = _libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY)
        if number < 0:
            return None
        directory = self._directories[path] = self._by_number[number] = _Directory(number)
        return directory

    def _forget(self, log: str, watch: Watch) -> None:
        path, name = os.path.split(log)
        if directory := self._directories.get(path):
            directory.logs.pop(os.fsencode(name), None)
            self._directories.move_to_end(path)
            if not directory.logs and len(self._directories) > _SPARE_DIRECTORIES:
                self._drop_spare()
        self._unwatched.discard(watch)
        if not self._unwatched and self._any_unwatched.is_set():
            self._any_unwatched = trio.Event()

    def _lose(self, lost: "_Directory") -> None:
        """Take note that the kernel no longer watches a directory: it was removed."""
        self._directories = OrderedDict(
            (path, directory)
            for path, directory in self._directories.items()
            if directory is not lost
        )
        del self._by_number[lost.number]
        self._unwatched.update(lost.logs.values())
        if lost.logs:
            self._any_unwatched.set()

    def _drop_spare(self) -> None:
        """Stop watching the directory that has been without logs for the longest time."""
        for path, directory in self._directories.items():
            if not directory.logs:
                _libc.inotify_rm_watch(self._fd, directory.number)
                del self._directories[path], self._by_number[directory.number]
                return


class _Directory:
    """A watched directory, and the watched logs in it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.logs: dict[bytes, Watch] = {}
