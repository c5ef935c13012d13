"""The files of a project: all below its directory but `.git`, what ignore files name, and usual rubbish.

Within a work tree of git, git's rules hold wherever git reads them, and what it tracks belongs to the project though it
is ignored. `.risemlignore` has the last word on everything.

The walk enters no ignored directory and follows no link. It goes level by level, so that it has seen the largest
directories when it stops because a project is too large.
A directory without files belongs to the project, unlike in git, since a program may write into it.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from riseml.progress import size_text
from riseml.sync.files import (
    DIRECTORY,
    EXECUTABLE,
    GONE,
    LINK,
    OPEN_FLAGS,
    REGULAR,
    FileStamp,
    ScannedFile,
    show,
    trouble,
)
from riseml.sync.ignore import IGNORE_FILES, Ignore
from riseml.sync.work_tree import WorkTree, is_top
from riseml_proto.errors import ProjectTooLarge, SyncError

_RUBBISH = frozenset(
    b".venv __pycache__ .ipynb_checkpoints .mypy_cache .pytest_cache .ruff_cache .hypothesis node_modules .tox "
    b".nox".split()
)
"""Directories that are left out by their name. lightning_logs is none: it has checkpoints to go on from."""
_RECORDS = frozenset([b"wandb", b"mlruns"])
_ENVIRONMENT = frozenset([b"pyvenv.cfg", b"conda-meta"])  # what only a virtual environment holds
_NAMED = 3  # directories or files that a message names


class ProjectLimits(NamedTuple):
    """The most that a project may have; the defaults are the daemon's."""

    files: int = 100_000
    bytes: int = 2 << 30


class Scan(NamedTuple):
    """A project's files, sorted by path, and the paths of sockets, pipes and devices."""

    files: list[ScannedFile]
    special: list[bytes]
    notes: list[str]
    """What the user should know of how the files were found."""

    @property
    def number(self) -> int:
        """Number of files, without empty directories."""
        return sum(source.mode != DIRECTORY for source in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(source.size for source in self.files)


class _Directory(NamedTuple):
    """A directory that the walk has to look into."""

    path: bytes
    """Relative to the project; empty, or with `/` behind."""
    rules: Ignore
    tree: WorkTree
    only_tracked: bool = False
    """It is left out, except for the files in it that git tracks."""
    wanted: bool = False
    """A `.risemlignore` brings it in."""


def scan(root: bytes, limits: ProjectLimits, environ: Mapping[str, str] = os.environ) -> Scan:
    """List the project in the directory `root`.

    Raises `ProjectTooLarge` as soon as a limit is passed, and `SyncError` for what cannot be read or leads outside.
    """
    files: list[ScannedFile] = []
    special: list[bytes] = []
    notes: list[str] = []
    count = _Tally("{:,} files".format, limits.files)
    size = _Tally(size_text, limits.bytes)
    directories = _Tally("{:,} directories".format, limits.files)

    def note(text: str) -> None:
        if not notes:
            notes.append(text)

    tree = WorkTree(root, b"", note, environ)
    waiting = deque([_Directory(b"", Ignore().within(tree.layers()), tree)])
    filled = {b""}
    empty: list[ScannedFile] = []
    while waiting:
        directory, outer, tree, only_tracked, wanted = waiting.popleft()
        folder = directory.rstrip(b"/")
        try:
            with os.scandir(root + b"/" + directory) as listing:
                entries = list(listing)
            names = {entry.name for entry in entries}
            if folder and b".git" in names and is_top(root + b"/" + folder):
                tree = WorkTree(root, directory, note, environ)
                outer, only_tracked = outer.within(tree.layers()), False
            elif folder and not (wanted or only_tracked) and _is_rubbish(folder, names):
                if not tree.tracks(folder, directory=True):
                    continue
                only_tracked = True
            rules = outer.inside(directory, _ignore_files(directory, entries))
            gits, owns = map(bool, rules.stacks)  # most projects lack one of them
            if not only_tracked:
                empty.append(_empty_directory(folder))
            before, small = len(files), 0
            for entry in entries:
                name = entry.name
                path = directory + name
                inner = entry.is_dir(follow_symlinks=False)
                if len(name) == 4 and name.lower() == b".git":
                    continue
                own = rules.own(path, directory=inner) if owns else None
                if own:
                    continue
                left_out = own is None and (
                    only_tracked
                    or (inner and name in _RUBBISH)
                    or (gits and rules.git(path, directory=inner))
                )
                if left_out and not tree.tracks(path, directory=inner):
                    continue
                if inner:
                    directories.add(folder, 1)
                    waiting.append(_Directory(path + b"/", rules, tree, left_out, own is False))
                    continue
                try:
                    source = _source(entry, path)
                except FileNotFoundError:  # it was removed since its directory was read
                    continue
                if source is None:
                    special.append(path)
                    continue
                files.append(source)
                if source.size > limits.bytes // 100:  # it is named by itself
                    size.add(path, source.size)
                else:
                    small += source.size
            if len(files) > before:
                filled.add(folder)
                count.add(folder, len(files) - before)
                size.add(folder, small)
        except OSError as error:
            # A directory other than the project's own may be removed after its parent was read.
            if not folder or error.errno not in GONE:
                raise trouble(folder, error) from None
    files += _without_content(empty, filled)
    files.sort()
    return Scan(files, special, notes)


def _is_rubbish(folder: bytes, names: set[bytes]) -> bool:
    """Whether a directory holding `names` is an environment, or the records of runs."""
    if names & _ENVIRONMENT:
        return True
    # A package of that name is somebody's code.
    return folder.rpartition(b"/")[2] in _RECORDS and b"__init__.py" not in names


def _empty_directory(path: bytes) -> ScannedFile:
    return ScannedFile(path, DIRECTORY, FileStamp(0, 0, 0, 0))


def _without_content(directories: list[ScannedFile], filled: set[bytes]) -> list[ScannedFile]:
    """Those of `directories`, parents first, in or below which nothing is; `filled` are those that hold files."""
    found = []
    for directory in reversed(directories):
        if directory.path not in filled:
            found.append(directory)
        if directory.path:
            filled.add(directory.path.rpartition(b"/")[0])
    return [one for one in found if one.path]


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
            except FileNotFoundError:
                continue
            except OSError as error:
                raise trouble(directory + entry.name, error) from None
    return tuple(map(texts.get, IGNORE_FILES))


def _source(entry: os.DirEntry[bytes], path: bytes) -> ScannedFile | None:
    """The file at `path`; None where it is a socket, pipe or device. Raises `FileNotFoundError` where it is gone."""
    try:
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            mode = EXECUTABLE if info.st_mode & stat.S_IXUSR else REGULAR
            return ScannedFile(path, mode, FileStamp.of(info))
        if not stat.S_ISLNK(info.st_mode):
            return None
        target = os.readlink(entry.path)
    except FileNotFoundError:
        raise
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
