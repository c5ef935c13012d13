"""How a job's processes are made to end, so that its program can use the time that it is given.

    the main programs   get the stop signal, alone: they may still need their workers to save what they have
    the rest            gets SIGTERM when the main programs have ended
    all                 get SIGKILL when the grace period is over

The main programs are what the job's shells run: where the shell that runs the commands, or a script that these start,
waits for a command, that command is meant. A part of a pipeline that reads what another part writes is not asked: it
sees the end of its input. A shell that catches the signal gets it, too. Any other shell that waits is stopped
meanwhile, so that it does not go on with its next command.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from rised.linux.process_tree import ProcessTree
from rised.linux.processes import ended, pidfd, send_signal, stat

# Seconds between two looks at processes that end sooner than they can be signalled.
_PAUSE = 0.02
_SHELLS = frozenset(
    ("sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "ksh93", "mksh", "fish", "csh", "tcsh")
)


class Process(NamedTuple):
    """What the choice of a job's main programs asks of a process."""

    parent: int
    is_shell: bool
    catches: bool
    """Whether it has a handler for the stop signal."""
    reads: str = ""
    """What its standard input is, where that is a pipe."""
    writes: str = ""
    """What its standard output is, where that is a pipe."""


class Plan(NamedTuple):
    """Whom the stop signal goes to first. Pids."""

    main: list[int]
    """Get the signal, and have ended when the rest gets SIGTERM."""
    waiting: list[int]
    """Shells that wait for the main programs and catch the signal, which they get."""
    stopped: list[int]
    """Shells that wait for the main programs and know nothing of the signal."""


def plan(processes: Mapping[int, Process], roots: tuple[int, ...]) -> Plan:
    """Choose a job's main programs. `roots`: the pids of what rised itself put above them, the uppermost first."""
    result = Plan([], [], [])
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    unexplored = [pid for pid in roots[:1] if pid in processes]
    while unexplored:
        pid = unexplored.pop()
        process, below = processes[pid], children.get(pid, [])
        if not below or not (process.is_shell or pid in roots):
            result.main.append(pid)
            continue
        if pid not in roots:
            (result.waiting if process.catches else result.stopped).append(pid)
        elif process.is_shell:
            result.stopped.append(pid)
        written = {processes[child].writes for child in below} - {""}
        first = [child for child in below if processes[child].reads not in written]
        unexplored += first or below
    return result


async def end_tree(
    tree: ProcessTree, grace: float, stop_signal: signal.Signals = signal.SIGTERM
) -> None:
    """Ask the main programs to end, then the rest; after `grace` seconds kill all. Return when none is left.

    The wait can be cancelled: the processes then stay as they are.
    """
    if grace > 0:
        with trio.move_on_after(grace):
            asked = await _ask_main(tree, stop_signal)
            await _until_none(tree, signal.SIGTERM, asked)
            return
    await _until_none(tree, signal.SIGKILL, set())


async def _ask_main(tree: ProcessTree, number: signal.Signals) -> set[int]:
    """Let the main programs end. Returns the pids of shells that need no other signal."""
    chosen, stopped = plan(_look(tree, number), tree.roots), set[int]()
    while new := set(chosen.stopped) - stopped:
        with _opened(tree, [*new]) as fds:
            for fd in fds.values():
                send_signal(fd, signal.SIGSTOP)
        stopped |= new
        # Again: one that was about to start its next command has started it, or will not.
        chosen = plan(_look(tree, number), tree.roots)
    with _opened(tree, chosen.waiting + chosen.main) as fds:
        for pid, fd in fds.items():
            send_signal(fd, number)
            _resume(pid, fd)
        for pid, fd in fds.items():
            if pid in chosen.main:
                await ended(fd)
    return set(chosen.waiting) if number is signal.SIGTERM else set()


def _resume(pid: int, fd: int) -> None:
    """Let one that is stopped see the signals that it was sent."""
    if (process := stat(pid)) and process.state == "T":
        send_signal(fd, signal.SIGCONT)


@contextlib.contextmanager
def _opened(tree: ProcessTree, pids: Sequence[int]) -> Iterator[dict[int, int]]:
    """A pidfd of each of the `pids` that is in the tree.

    A pid may have been recycled before its pidfd was opened. What is in the tree afterwards is the tree's.
    """
    with contextlib.ExitStack() as stack:
        fds = {pid: stack.enter_context(pidfd(pid)) for pid in pids}
        still = set(tree.pids()) if pids else set()
        yield {pid: fd for pid, fd in fds.items() if fd is not None and pid in still}


def _look(tree: ProcessTree, number: signal.Signals) -> dict[int, Process]:
    """The tree's processes as they are now."""
    processes = {}
    for pid in tree.pids():
        if process := stat(pid):
            reads, writes = (_pipe(pid, fd) for fd in (0, 1))
            processes[pid] = Process(
                process.parent, _is_shell(pid), _catches(pid, number), reads, writes
            )
    return processes


def _pipe(pid: int, fd: int) -> str:
    with contextlib.suppress(OSError):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        return target if target.startswith("pipe:") else ""
    return ""


def _is_shell(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) in _SHELLS
    return False


def _catches(pid: int, number: signal.Signals) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


async def _until_none(tree: ProcessTree, number: signal.Signals, asked: set[int]) -> None:
    """Send the signal to all but those that were `asked` until none is left."""
    while pids := tree.pids():
        if number is signal.SIGKILL:
            tree.kill_at_once()
        with _opened(tree, pids) as fds:
            for pid, fd in fds.items():
                if pid not in asked:
                    send_signal(fd, number)
                _resume(pid, fd)
            for fd in fds.values():
                await ended(fd)
        if not fds:
            await trio.sleep(_PAUSE)
