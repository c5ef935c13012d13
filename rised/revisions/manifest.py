"""From a manifest to git's trees: the objects of a revision, computed without touching the disk.

A file is refused if it could not be written back exactly: a path that occurs twice, a path that is both a file and a
directory (`x` and `x/y`, so that nothing can be written through a link), a mode that git lacks, and a path that is too
long for the kernel below the daemon's own directories.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from riseml_proto import paths
from riseml_proto.errors import SyncError
from riseml_proto.messages import File

LINK = 0o120000
DIRECTORY = 0o040000
MODES = (0o100644, 0o100755, LINK, DIRECTORY)
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""ID of a directory with nothing in it; only such a directory is in a manifest by itself."""

LONGEST_PATH = 3072  # bytes; the kernel takes 4095, directories of the daemon included
LONGEST_NAME = 255  # bytes; what Linux file systems take

_IGNORE = "name what does not belong to it in .risemlignore"
_OBJECT_ID = re.compile(r"[0-9a-f]{40}")

_Node = dict[bytes, "_Node | tuple[int, bytes]"]


class Limits(NamedTuple):
    """The largest project that is accepted."""

    files: int
    bytes: int


class Plan(NamedTuple):
    """The git objects that a revision needs. IDs are 40 hex digits."""

    root: str
    trees: dict[str, bytes]
    """ID of every tree → its content as git stores it."""
    blobs: list[str]
    """IDs of the files' contents, each once, in the manifest's order."""
    links: dict[str, str]
    """ID of a blob → path of one symbolic link that has it as its target."""
    files: int


def is_object_id(text: str) -> bool:
    """Whether `text` is 40 hex digits, lower case."""
    return _OBJECT_ID.fullmatch(text) is not None


def plan(files: Sequence[File], limits: Limits) -> Plan:
    """The trees and blobs of `files`. Raises `SyncError` for files that no revision can hold."""
    _check_limits(files, limits)
    root: _Node = {}
    node, at = root, b""  # the directory of the file before, which is mostly the next one's
    directories = 0
    links = {}
    for file in files:
        path = _checked_path(file)
        parent, _, name = path.rpartition(b"/")
        if parent != at:
            node, made = _directory(root, parent)
            at, directories = parent, directories + made
            if directories > limits.files:
                raise SyncError(
                    f"the project has more than {limits.files:,} directories; {_IGNORE}"
                )
        if name in node:
            _refuse_twice(file.path, isinstance(node[name], tuple))
        if file.mode == DIRECTORY:
            node[name] = {}
            directories += 1
            continue
        node[name] = (file.mode, file.blob.encode())
        if file.mode == LINK:
            links[file.blob] = file.path
    top, trees = _write(root)
    blobs = dict.fromkeys(file.blob for file in files if file.mode != DIRECTORY)
    return Plan(top, trees, list(blobs), links, sum(file.mode != DIRECTORY for file in files))


def _check_limits(files: Sequence[File], limits: Limits) -> None:
    if len(files) > limits.files:
        raise SyncError(
            f"the project has {len(files):,} files, over the {limits.files:,} allowed; {_IGNORE}"
        )
    total = sum(file.size for file in files)
    if total > limits.bytes:
        raise SyncError(
            f"the project has {total:,} bytes, over the {limits.bytes:,} allowed; {_IGNORE}"
        )


def _checked_path(file: File) -> bytes:
    path = paths.unquote(file.path)
    paths.check(path)
    if len(path) > LONGEST_PATH:
        raise SyncError(f"{file.path[:60]!r}…: this path is longer than {LONGEST_PATH} bytes")
    if len(path) > LONGEST_NAME and max(map(len, path.split(b"/"))) > LONGEST_NAME:
        raise SyncError(f"{file.path[:60]!r}…: this path has a name of over {LONGEST_NAME} bytes")
    if file.mode not in MODES:
        raise SyncError(
            f"{file.path!r}: {file.mode:o} is not a mode of a file, a symbolic link or a directory"
        )
    if not is_object_id(file.blob):
        raise SyncError(f"{file.path!r}: {file.blob[:50]!r} is not a blob's id of 40 hex digits")
    if file.mode == DIRECTORY and (file.blob, file.size) != (EMPTY_TREE, 0):
        raise SyncError(f"{file.path!r}: only an empty directory is in the list by itself")
    if file.size < 0:
        raise SyncError(f"{file.path!r}: its size is {file.size}, but cannot be below 0")
    return path


def _directory(root: _Node, path: bytes) -> tuple[_Node, int]:
    """The node of the directory `path`, and how many nodes had to be made for it."""
    node, made = root, 0
    for part in path.split(b"/") if path else ():
        child = node.get(part)
        if child is None:
            child = node[part] = {}
            made += 1
        elif isinstance(child, tuple):
            _refuse_twice(paths.quote(path), False)
        assert isinstance(child, dict)
        node = child
    return node, made


def _refuse_twice(path: str, same: bool) -> None:
    problem = "is in the list twice" if same else "is, or lies in, both a file and a directory"
    raise SyncError(f"{path!r}: this path {problem}")


def _write(root: _Node) -> tuple[str, dict[str, bytes]]:
    from dulwich.objects import ObjectID, Tree

    order = [root]
    for node in order:  # grows while it is walked: parents come before their children
        order.extend(child for child in node.values() if isinstance(child, dict))
    ids: dict[int, bytes] = {}
    trees = {}
    for node in reversed(order):
        tree = Tree()
        for name, child in node.items():
            mode, blob = (DIRECTORY, ids[id(child)]) if isinstance(child, dict) else child
            tree.add(name, mode, ObjectID(blob))
        ids[id(node)] = tree.id
        trees[tree.id.decode()] = tree.as_raw_string()
    return ids[id(root)].decode(), trees
