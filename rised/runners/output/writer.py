"""The log writer: a process that moves what jobs write into FIFOs to their logs. It outlives the daemon.

It is a program of its own, which the daemon starts by this file's path and which imports the standard library alone.
The other end of its standard input is the daemon's (`rised.runners.output.pipes`), a socket of packets:

    to it     open KEY and the descriptors of a FIFO and a log;  drain KEY
    from it   KEY, once all that was in the FIFO is in the log; KEY, NUL and a reason, where it cannot be

The kernel moves the bytes from one file to the other (splice), so that SIGKILL loses none: what is not in the log is
still in the FIFO, which the job and the daemon hold open. So an empty FIFO is enough for the daemon to know that the
log is complete. Where a log cannot be written, for example because the disk is full, it is tried again, and the job
waits with its next write.

It closes a FIFO that nobody has open for writing any more. It ends by SIGTERM, with all that it was told of and that
lies in the FIFOs by then, and when the daemon has gone and it has no FIFO left.
"""

import contextlib
import errno
import os
import select
import signal
import socket
from collections import deque

_MOST = 1 << 20
"""Bytes that are moved in one step, at most; a FIFO holds less."""
_RETRY_SECONDS = 0.5
_TRIES = 4
"""Tries to write the last bytes of a job that has ended."""
_SPLICE_F_NONBLOCK = 2


class _Output:
    """One job's FIFO and its log."""

    def __init__(self, key: bytes, fifo: int, log: int) -> None:
        self.key = key
        self.fifo = fifo
        self.log = log
        self.tries = 0
        """How often it is still tried, once the daemon waits for its end; 0 before."""
        self._copies = False

    def move(self) -> int:
        """Move some bytes; 0 where no process can write any more. Raises `OSError`: EAGAIN where there are none."""
        os.lseek(self.log, 0, os.SEEK_END)  # the user may have cut the log short
        if not self._copies:
            try:
                return os.splice(self.fifo, self.log, _MOST)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._copies = True  # the log's file system cannot
        return self._copy()

    def _copy(self) -> int:
        """As `move`. The bytes stay in the FIFO until they are written: after SIGKILL some are written twice."""
        reader, copy = os.pipe2(os.O_CLOEXEC)
        try:
            if not (count := _tee(self.fifo, copy)):
                return 0
            count = left = os.write(self.log, os.read(reader, count))
            while left:
                left -= len(os.read(self.fifo, left))
            return count
        finally:
            os.close(reader)
            os.close(copy)

    def close(self) -> None:
        os.close(self.fifo)
        os.close(self.log)


class _Writer:
    def __init__(self, daemon: socket.socket, wakeup: int) -> None:
        """`wakeup` becomes readable when the writer is to end."""
        self._daemon: socket.socket | None = daemon
        self._wakeup = wakeup
        self._outputs: dict[bytes, _Output] = {}
        self._by_fifo: dict[int, _Output] = {}
        self._ready: dict[int, None] = {}
        self._failing: dict[int, None] = {}
        self._replies: deque[bytes] = deque()
        self._epoll = select.epoll()
        self._epoll.register(daemon, select.EPOLLIN)
        self._epoll.register(wakeup, select.EPOLLIN)

    def run(self) -> None:
        """Move output until there is nobody left to write any, or SIGTERM comes."""
        while self._daemon or self._outputs:
            timeout = 0 if self._ready else _RETRY_SECONDS if self._failing else None
            events = self._epoll.poll(timeout)
            for fd, event in events:
                if fd == self._wakeup:
                    self._finish()
                    return
                if fd in self._by_fifo:
                    self._ready[fd] = None
                elif self._daemon and event & select.EPOLLOUT:
                    self._send()
                elif self._daemon:
                    with contextlib.suppress(BlockingIOError):
                        self._receive(self._daemon)
            if not events and not self._ready:
                self._ready, self._failing = self._failing, {}
            for fd in list(self._ready):
                self._move(self._by_fifo[fd])

    def _finish(self) -> None:
        """Take what the daemon has sent, and move what the FIFOs hold: of a job that has ended, nobody else has its."""
        with contextlib.suppress(BlockingIOError):
            while self._daemon:
                self._receive(self._daemon)
        for output in self._outputs.values():
            with contextlib.suppress(OSError):
                left = _MOST
                while left > 0 and (moved := output.move()):
                    left -= moved

    def _receive(self, daemon: socket.socket) -> None:
        """Take one packet. Raises `BlockingIOError` where there is none."""
        try:
            packet, fds, _, _ = socket.recv_fds(daemon, 4096, 2)
        except ConnectionError:
            packet, fds = b"", []
        word, _, key = packet.partition(b" ")
        if word == b"open" and len(fds) == 2:
            if key in self._outputs:  # of a start that failed
                self._forget(self._outputs[key])
            self._open(_Output(key, *fds))
            return
        for fd in fds:
            os.close(fd)
        if word == b"open":
            self._reply(key + b"\0it has too many open files")
        elif word == b"drain" and key in self._outputs:
            self._outputs[key].tries = _TRIES
            self._ready[self._outputs[key].fifo] = None
        elif word == b"drain":
            self._reply(key)
        else:
            self._epoll.unregister(daemon)
            self._daemon = None

    def _open(self, output: _Output) -> None:
        self._outputs[output.key] = self._by_fifo[output.fifo] = output
        # Edge-triggered: each look at one is a step of its own, so that a job that never pauses holds up no other.
        self._epoll.register(output.fifo, select.EPOLLIN | select.EPOLLET)
        self._ready[output.fifo] = None

    def _move(self, output: _Output) -> None:
        try:
            if output.move():
                return
            self._forget(output)
        except BlockingIOError:
            del self._ready[output.fifo]
        except OSError as error:
            self._fail(output, error.strerror or "")
            return
        if output.tries:
            output.tries = 0
            self._reply(output.key)

    def _fail(self, output: _Output, why: str) -> None:
        del self._ready[output.fifo]
        if output.tries == 1:
            self._forget(output)
            self._reply(output.key + b"\0" + why.encode())
            return
        output.tries = max(0, output.tries - 1)
        self._failing[output.fifo] = None

    def _forget(self, output: _Output) -> None:
        # Closing is not enough: the daemon has the same FIFO open.
        self._epoll.unregister(output.fifo)
        del self._outputs[output.key], self._by_fifo[output.fifo]
        self._ready.pop(output.fifo, None)
        self._failing.pop(output.fifo, None)
        output.close()

    def _reply(self, reply: bytes) -> None:
        self._replies.append(reply)
        self._send()

    def _send(self) -> None:
        """Send what the daemon takes; it may have been stopped, and no job waits for that."""
        if not self._daemon:
            return
        try:
            while self._replies:
                self._daemon.send(self._replies[0])
                self._replies.popleft()
        except BlockingIOError:
            self._epoll.modify(self._daemon, select.EPOLLIN | select.EPOLLOUT)
        except ConnectionError:  # seen by the next look at it
            self._replies.clear()
        else:
            self._epoll.modify(self._daemon, select.EPOLLIN)


def _tee(source: int, to: int) -> int:
    """Copy what is in one pipe to another, and leave it there; returns how many bytes. Raises `OSError`."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    count: int = libc.tee(source, to, ctypes.c_size_t(_MOST), _SPLICE_F_NONBLOCK)
    if count < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return count


def main() -> None:
    """Serve the daemon at the other end of the standard input."""
    wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: None)
    # The daemon blocks it: until here it would end the writer with what it has been told of.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=0) as daemon:
        daemon.setblocking(False)
        _Writer(daemon, wakeup).run()


if __name__ == "__main__":
    main()
