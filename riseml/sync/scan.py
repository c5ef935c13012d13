"""The files of a project: all below its directory but `.git` and what ignore files name.

The walk enters no ignored directory and follows no link. It goes level by level, so that it has seen the largest
directories when it stops because a project is too large. Empty directories are no part of a project, as in git.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from riseml.progress import size_text
from riseml.sync.files import (
    EXECUTABLE,
    LINK,
    OPEN_FLAGS,
    REGULAR,
    FileStamp,
    ScannedFile,
    show,
    trouble,
)
from riseml.sync.ignore import IGNORE_FILES, Ignore
from riseml_proto.errors import ProjectTooLarge, SyncError

_NAMED = 3  # directories or files that a message names


class ProjectLimits(NamedTuple):
    """The most that a project may have; the defaults are the daemon's."""

    files: int = 100_000
    bytes: int = 2 << 30


class Scan(NamedTuple):
    """A project's files, sorted by path, and the paths of sockets, pipes and devices."""

    files: list[ScannedFile]
    special: list[bytes]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(source.size for source in self.files)


def scan(root: bytes, limits: ProjectLimits) -> Scan:
    """List the project in the directory `root`.

    Raises `ProjectTooLarge` as soon as a limit is passed, and `SyncError` for what cannot be read or leads outside.
    """
    files: list[ScannedFile] = []
    special: list[bytes] = []
    count = _Tally("{:,} files".format, limits.files)
    size = _Tally(size_text, limits.bytes)
    directories = _Tally("{:,} directories".format, limits.files)
    waiting = deque([(b"", Ignore())])
    while waiting:
        directory, outer = waiting.popleft()
        folder = directory.rstrip(b"/")
        try:
            with os.scandir(root + b"/" + directory) as listing:
                entries = list(listing)
                rules = outer.inside(directory, _ignore_files(directory, entries))
                for entry in entries:
                    path = directory + entry.name
                    inner = entry.is_dir(follow_symlinks=False)
                    if entry.name.lower() == b".git" or rules.ignores(path, directory=inner):
                        continue
                    if inner:
                        directories.add(folder, 1)
                        waiting.append((path + b"/", rules))
                    elif source := _source(entry, path):
                        files.append(source)
                        count.add(folder, 1)
                        # A file of more than 1% of the limit is named by itself.
                        size.add(path if source.size > limits.bytes // 100 else folder, source.size)
                    else:
                        special.append(path)
        except OSError as error:
            raise trouble(folder, error) from None
    files.sort()
    return Scan(files, special)


def special_text(special: list[bytes]) -> str:
    """A warning about the special files that were left out."""
    named = ", ".join(show(path) for path in special[:_NAMED])
    more = f" and {len(special) - _NAMED:,} more" if len(special) > _NAMED else ""
    return f"sockets, pipes and devices are not synced: {named}{more}"


def _ignore_files(directory: bytes, entries: list[os.DirEntry[bytes]]) -> tuple[bytes | None, ...]:
    """The contents of the ignore files in `directory`. A link is none, as in git."""
    texts = dict[bytes, bytes]()
    for entry in entries:
        if entry.name in IGNORE_FILES and entry.is_file(follow_symlinks=False):
            try:
                with open(os.open(entry.path, OPEN_FLAGS), "rb") as file:
                    texts[entry.name] = file.read()
            except OSError as error:
                raise trouble(directory + entry.name, error) from None
    return tuple(map(texts.get, IGNORE_FILES))


def _source(entry: os.DirEntry[bytes], path: bytes) -> ScannedFile | None:
    """The file at `path`; None where it is a socket, pipe or device."""
    try:
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            mode = EXECUTABLE if info.st_mode & stat.S_IXUSR else REGULAR
            return ScannedFile(path, mode, FileStamp.of(info))
        if not stat.S_ISLNK(info.st_mode):
            return None
        target = os.readlink(entry.path)
    except OSError as error:
        raise trouble(path, error) from None
    if leads_outside(path, target):
        raise SyncError(
            f"{show(path)} is a link to {show(target)}, which is outside the project; make the "
            "link absolute, or list it in .risemlignore"
        )
    return ScannedFile(path, LINK, FileStamp.of(info), target)


def leads_outside(path: bytes, target: bytes) -> bool:
    """Whether a relative link at `path` leaves the project, even if its way comes back in."""
    way = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return not target.startswith(b"/") and way.split(b"/", 1)[0] == b".."


class _Tally:
    """Adds up amounts per directory, up to a limit for all together."""

    def __init__(self, text: Callable[[int], str], limit: int) -> None:
        self._text = text
        self._limit = limit
        self._total = 0
        self._own: dict[bytes, int] = {}

    def add(self, directory: bytes, amount: int) -> None:
        """Add `amount` in `directory`. Raises `ProjectTooLarge` beyond the limit."""
        self._own[directory] = self._own.get(directory, 0) + amount
        self._total += amount
        if self._total > self._limit:
            parts = ", ".join(f"{show(p)} ({self._text(n)})" for p, n in biggest(self._own))
            raise ProjectTooLarge(
                f"the project has more than {self._text(self._limit)}; the biggest parts are "
                f"{parts}; list what the experiment does not need in .risemlignore"
            )


def biggest(own: Mapping[bytes, int]) -> list[tuple[bytes, int]]:
    """The few directories that hold most, each with the amount below it; `own` has the direct amounts.

    A directory is as deep as it can be without losing more than a fifth of what its top-level
    directory holds: for `data/train/0001`, `data/train/0002`, … it is `data/train`.
    """
    totals: dict[bytes, int] = {}
    children: dict[bytes, set[bytes]] = {}
    for directory, amount in own.items():
        node = directory
        while node:
            totals[node] = totals.get(node, 0) + amount
            parent = node.rpartition(b"/")[0]
            children.setdefault(parent, set()).add(node)
            node = parent
    parts = [(b"", own.get(b"", 0))]
    for top in children.get(b"", ()):
        node = deepest = top
        while node in children:
            node = max(children[node], key=totals.__getitem__)
            if totals[node] * 5 < totals[top] * 4:
                break
            deepest = node
        parts.append((deepest, totals[deepest]))
    parts = [(directory, amount) for directory, amount in parts if amount]
    return sorted(parts, key=lambda item: (-item[1], item[0]))[:_NAMED]
