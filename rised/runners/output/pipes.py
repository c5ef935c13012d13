"""The daemon's side of the log writer: makes each job's FIFO, hands it over, and learns when all of it is in the log.

    a job's standard output     its FIFO, open for reading and writing: the job neither dies nor loses anything where
                                nobody reads for a while
    the writer                  moves what comes to the log, also while no daemon runs
    the daemon                  has the FIFO open, too, for the next writer, should this one be killed

A daemon that starts ends the writer of the one before it, which may be of another version, and starts its own. Before
that it opens the FIFOs of all jobs (`hold`): what one of them writes meanwhile, as its last words, stays in there.
"""

import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Iterator

import trio

from rised.crashpoints import crash_point
from rised.linux.children import Child, Children
from rised.linux.copy_tree import remove_tree
from rised.linux.files import opened
from rised.linux.processes import ended, pidfd, send_signal
from rised.log import log
from rised.runners.output import writer
from rised.users.files import give, open_log
from rised.users.owner import Owner
from riseml_proto.errors import DaemonError

_LOCK = "log-writer"
_RIGHTS = socket.SOL_SOCKET, socket.SCM_RIGHTS
_FDS = struct.Struct("2i")
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN_SECONDS = 1.0
_PATIENCE = 10.0
"""Seconds for an earlier daemon's writer to end."""


class _Pipe:
    """One job's FIFO, and what is handed over with it."""

    def __init__(self, key: str, path: str, fifo: int, log_fd: int) -> None:
        self.key = key
        self.path = path
        self.fds = (fifo, log_fd)
        self.job_end: int | None = None
        """Open for writing as long as the job itself has not opened it yet."""
        self.drains = False
        self.drained = trio.Event()

    def packets(self) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        """What a new writer is told of it."""
        yield b"open " + self.key.encode(), self.fds
        if self.drains:
            yield b"drain " + self.key.encode(), ()

    def is_empty(self) -> bool:
        """Whether all that was written is in the log. The kernel empties it and writes the log in one step."""
        return fcntl.ioctl(self.fds[0], termios.FIONREAD, bytes(4)) == bytes(4)

    def close(self) -> None:
        """Close the daemon's descriptors."""
        for fd in self.fds:
            os.close(fd)
        if self.job_end is not None:
            os.close(self.job_end)


class OutputPipes:
    """The FIFOs of one daemon's jobs. `run` must run while there are any."""

    def __init__(self, state_dir: str, children: Children, holder: str | None = None) -> None:
        """`holder`: file of a control group that the writer joins, for the daemon's may be ended with the daemon."""
        self._lock_path = os.path.join(state_dir, _LOCK)
        self._lock = -1
        self._children = children
        self._holder = holder
        self._pipes: dict[str, _Pipe] = {}
        self._held: dict[str, int] = {}
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._writer: tuple[socket.socket, Child] | None = None
        self._joined: Child | None = None
        self._is_full = trio.Event()
        self._wanted = trio.Event()

    def make(self, key: str, path: str, log_path: str, owner: Owner) -> int:
        """Make the FIFO `path` of the job `key`, and begin to move what comes to the log. Raises `OSError`.

        Returns a descriptor for the job's output, which the caller closes.
        """
        if earlier := self._pipes.get(key):  # of a start that failed
            self._remove(earlier)
        _remove(path)
        os.mkfifo(path, 0o600)
        pipe = self._open(key, path, log_path, owner)
        try:
            job_end = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if owner.is_other:
                give(job_end, owner)
        except BaseException:
            pipe.close()
            raise
        crash_point("fifo-made")
        try:
            self._add(pipe)
        except BaseException:
            os.close(job_end)
            self._remove(pipe)
            raise
        return job_end

    def keep(self, key: str, job_end: int) -> None:
        """Take over the descriptor that `make` returned, for a job that opens the FIFO by its path."""
        self._pipes[key].job_end = job_end

    def hold(self, path: str) -> None:
        """Keep what is in the FIFO of an earlier daemon's job until that is adopted; to be called before `run`."""
        with contextlib.suppress(OSError):
            self._held[path] = os.open(path, _READ)

    def adopt(self, key: str, path: str, log_path: str, owner: Owner) -> None:
        """Go on with the FIFO of a job of an earlier daemon; nothing, where it has none."""
        try:
            self._add(self._open(key, path, log_path, owner))
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("cannot go on with a job's output", job=key, why=str(error))

    async def drain(self, key: str) -> None:
        """Return when all that the job, which has ended, has written is in its log, as far as that can be written.

        Where it is already, which is the ordinary case, this is no checkpoint: the next job waits for it.
        """
        pipe = self._pipes.get(key)
        if pipe is None:
            return
        if pipe.is_empty():
            self._remove(pipe)
            return
        if not pipe.drains:
            pipe.drains = True
            self._send(b"drain " + key.encode())
        await pipe.drained.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """End an earlier daemon's writer; listen to ours, and start another where it is killed."""
        with opened(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600) as self._lock:
            await _take(self._lock)
            task_status.started()
            try:
                while True:
                    await self._wanted.wait()
                    if await self._listen():
                        await trio.sleep(_AGAIN_SECONDS)
            finally:
                self._lock = -1
                for pipe in self._pipes.values():
                    pipe.close()
                for fd in self._held.values():
                    os.close(fd)

    def _open(self, key: str, path: str, log_path: str, owner: Owner) -> _Pipe:
        held = self._held.pop(path, None)
        fifo = os.open(path, _READ) if held is None else held
        try:
            return _Pipe(key, path, fifo, open_log(log_path, owner, append=False))
        except BaseException:
            os.close(fifo)
            raise

    def _add(self, pipe: _Pipe) -> None:
        """Hand a pipe over, before its job can begin: were it the daemon's alone, SIGKILL could lose what it holds."""
        self._pipes[pipe.key] = pipe
        self._wanted.set()
        if self._writer:
            for packet in pipe.packets():
                self._send(*packet)
        else:
            self._start()
        if self._writer:
            self._join(self._writer[1])

    def _send(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        if self._writer:
            self._unsent.append((packet, fds))
            self._flush(self._writer[0])

    def _flush(self, ours: socket.socket) -> None:
        """Send what the writer takes now."""
        try:
            while self._unsent:
                packet, fds = self._unsent[0]
                ours.sendmsg([packet], [(*_RIGHTS, _FDS.pack(*fds))] if fds else [])
                self._unsent.popleft()
        except BlockingIOError:
            self._is_full.set()
        except ConnectionError:  # it has ended
            self._unsent.clear()

    def _start(self) -> None:
        """Start a writer and tell it of all pipes. Raises `OSError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                child = self._spawn(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        self._writer = ours, child
        self._unsent = deque(p for pipe in self._pipes.values() for p in pipe.packets())
        self._flush(ours)

    def _spawn(self, control: int) -> Child:
        argv = [sys.executable, "-I", "-S", os.path.abspath(writer.__file__)]
        child = self._children.spawn(
            argv, {}, stdin=control, output=self._lock, blocked=[signal.SIGTERM]
        )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{child.pid} {child.start}\n".encode(), 0)
        crash_point("writer-started")
        return child

    def _join(self, child: Child) -> None:
        """Let the writer join the group that outlives the daemon's.

        Only now that a job has: one that took the place of a writer which was ended with the group would keep that
        from ending.
        """
        if self._holder and child is not self._joined:
            with contextlib.suppress(OSError), opened(self._holder, os.O_WRONLY) as fd:
                os.write(fd, str(child.pid).encode())
                self._joined = child

    async def _listen(self) -> bool:
        """Return when the writer has ended, and whether the next one is to wait a moment."""
        began = trio.current_time()
        try:
            if self._writer is None:
                self._start()
        except OSError as error:
            log.error("cannot start the log writer, trying again", why=str(error))
            return True
        assert self._writer
        ours, child = self._writer
        with ours:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_rest, ours)
                    await self._receive(ours)
                    nursery.cancel_scope.cancel()
            finally:
                self._writer = None
        log.warning("the log writer has ended; starting another", code=await child.wait())
        return trio.current_time() - began < _AGAIN_SECONDS

    async def _send_rest(self, ours: socket.socket) -> None:
        while True:
            await self._is_full.wait()
            await trio.lowlevel.wait_writable(ours)
            self._is_full = trio.Event()
            self._flush(ours)

    async def _receive(self, ours: socket.socket) -> None:
        """Note the writer's answers until it has ended."""
        while True:
            await trio.lowlevel.wait_readable(ours)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while answer := ours.recv(4096):
                    self._note(answer)
                return

    def _note(self, answer: bytes) -> None:
        """One pipe is drained, or cannot be."""
        key, _, why = answer.decode().partition("\0")
        if why:
            log.warning("the end of a job's output is lost", job=key, why=why)
        if pipe := self._pipes.get(key):
            self._remove(pipe)

    def _remove(self, pipe: _Pipe) -> None:
        del self._pipes[pipe.key]
        pipe.close()
        try:
            _remove(pipe.path)
        except OSError as error:
            log.warning("cannot remove a FIFO", path=pipe.path, why=str(error))
        pipe.drained.set()


def _remove(path: str) -> None:
    """Remove a FIFO, or whatever the job has put in its place. Raises `OSError`."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        remove_tree(path)


async def _take(lock: int) -> None:
    """Hold the lock that an earlier daemon's writer holds while it lives, and end that. Raises `DaemonError`."""
    with trio.move_on_after(_PATIENCE):
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await _end(os.pread(lock, 64, 0).split())
            else:
                return
    raise DaemonError(
        "the log writer of an earlier daemon does not end, or cannot be reached from here; see who has"
        f" {os.readlink(f'/proc/self/fd/{lock}')} open"
    )


async def _end(written: list[bytes]) -> None:
    """End the writer whose pid and start were `written`. One of whom nothing was has no job, and ends by itself."""
    if len(written) >= 2 and written[0].isdigit() and written[1].isdigit():
        with pidfd(int(written[0]), int(written[1])) as fd:
            if fd is not None:
                send_signal(fd, signal.SIGTERM)
                await ended(fd)
    await trio.sleep(0.02)
