"""Sees every running job's log grow, and stamps the growth.

The kernel tells (inotify, on the logs' directories); nothing here runs while nothing is written.
Jobs that write without a pause are looked at a bounded number of times a second, and the watcher
never takes more than about a tenth of a processor. Where the kernel has no watch to give (its
limits are per user, and editors use many), such logs are looked at twice a second instead.
"""

import ctypes
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

import trio

from rised.logs import stamps
from rised.logs.stamps import Stamp

_PAUSE = 0.005
"""Seconds between two looks at logs that keep growing; a first write is seen at once."""
_SHARE = 9
"""Rests at least so many times as long as the last look took."""
_UNWATCHED_PAUSE = 0.5
_SPARE_DIRECTORIES = 64
"""Directories watched though no log in them is: the next of a sweep's jobs has its log there, and a watch costs more to
make and to remove than to keep."""

_IN_MODIFY = 0x2
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """One log under watch. `size` is how much of it has been stamped, in bytes."""

    def __init__(self, watcher: "LogWatcher", log: str, notify: Callable[[], None]) -> None:
        self.size = 0
        self._watcher = watcher
        self._log = log
        self._notify = notify
        self._time_ms = 0
        watcher._register(log, self)
        # Bytes that are there already were written while no daemon watched, or since the job was let go: in a container
        # it writes its first line within microseconds, and whoever follows it has looked before.
        found = self._stat()
        if found is not None and found.st_size:
            stamped = stamps.last(log)
            if stamped is not None and stamped.end <= found.st_size:
                self.size, self._time_ms = stamped
            if self._stamp(found.st_size, found.st_mtime_ns // 1_000_000):
                notify()

    def look(self) -> None:
        """Stamp what has been written since the last look, and notify if there is anything."""
        if self._look():
            self._notify()

    def close(self) -> None:
        """Stamp what is left and stop watching. The job has ended: nothing writes any more."""
        self._look()
        self._watcher._forget(self._log, self)

    def _look(self) -> bool:
        found = self._stat()
        return found is not None and self._stamp(found.st_size, time.time_ns() // 1_000_000)

    def _stamp(self, size: int, time_ms: int) -> bool:
        """Whether the log has changed to `size` since the last stamp."""
        if size == self.size:
            return False
        if size < self.size:
            # The job cut its own log short: what is there now is new.
            self.size = 0
        if size:
            self._time_ms = max(self._time_ms, time_ms)
            # Without room on the disk the next stamp covers this growth, too.
            with suppress(OSError):
                stamps.append(self._log, Stamp(size, self._time_ms), anew=self.size == 0)
        self.size = size
        return True

    def _stat(self) -> os.stat_result | None:
        try:
            return os.stat(self._log)
        except OSError:
            return None


class LogWatcher:
    """Watches any number of logs while it `run`s in the daemon's nursery."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._directories: OrderedDict[str, _Directory] = OrderedDict()
        self._by_number: dict[int, _Directory] = {}
        self._unwatched: set[Watch] = set()
        self._any_unwatched = trio.Event()

    def add(self, log_path: str, notify: Callable[[], None]) -> Watch:
        """Watch `log_path` and call `notify` each time it has grown, until `Watch.close`.

        What it holds beyond its last stamp is stamped with the file's own time. A log may be
        watched only once.
        """
        return Watch(self, log_path, notify)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
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
                return [w for place in self._directories.values() for w in place.logs.values()]
            place = self._by_number.get(number)
            if place is not None and mask & _IN_IGNORED:
                self._lose(place)
            elif place is not None and name_size:
                name = data[at - name_size : at].rstrip(b"\0")
                # A name without a watch is another file's, or a log's that was closed since.
                if watch := place.logs.get(name):
                    changed[watch] = None
        return list(changed)

    async def _look_at_unwatched(self) -> None:
        while True:
            await self._any_unwatched.wait()
            for watch in list(self._unwatched):
                watch.look()
            await trio.sleep(_UNWATCHED_PAUSE)

    def _register(self, log: str, watch: Watch) -> None:
        directory, name = os.path.split(log)
        place = self._directories.get(directory) or self._watch(directory)
        if place is None:
            self._unwatched.add(watch)
            self._any_unwatched.set()
        elif place.logs.setdefault(os.fsencode(name), watch) is not watch:
            raise ValueError(f"{log} is watched already")

    def _watch(self, directory: str) -> "_Directory | None":
        if self._fd < 0:
            return None
        number = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _IN_MODIFY)
        if number < 0:
            return None
        place = self._directories[directory] = self._by_number[number] = _Directory(number)
        return place

    def _forget(self, log: str, watch: Watch) -> None:
        directory, name = os.path.split(log)
        if place := self._directories.get(directory):
            place.logs.pop(os.fsencode(name), None)
            self._directories.move_to_end(directory)
            if not place.logs and len(self._directories) > _SPARE_DIRECTORIES:
                self._drop_spare()
        self._unwatched.discard(watch)
        if not self._unwatched and self._any_unwatched.is_set():
            self._any_unwatched = trio.Event()

    def _lose(self, place: "_Directory") -> None:
        """The kernel watches it no more: someone removed it."""
        self._directories = OrderedDict(
            (path, other) for path, other in self._directories.items() if other is not place
        )
        del self._by_number[place.number]
        self._unwatched.update(place.logs.values())
        if place.logs:
            self._any_unwatched.set()

    def _drop_spare(self) -> None:
        """Stop watching the directory that has been without logs for longest."""
        for directory, place in self._directories.items():
            if not place.logs:
                _libc.inotify_rm_watch(self._fd, place.number)
                del self._directories[directory], self._by_number[place.number]
                return


class _Directory:
    """A directory under watch, and those of its files that are."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.logs: dict[bytes, Watch] = {}
