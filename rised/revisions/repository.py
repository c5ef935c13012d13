"""One project's bare git repository: revisions are its commits.

    <state_dir>/repositories/<user>/<project>.git    the repository
    <state_dir>/trees/<user>/<project>/<revision>    a pristine tree, made when a job first needs it

Its refs:

    refs/heads/main        the last revision that was new; its history is the project's
    refs/trees/<tree id>   the revision that has this tree: a commit per tree, ever

So the same files always give the same revision, even if others came in between. A revision exists once the ref of its
tree is on disk; everything that it needs is on disk before. main follows. If the daemon dies in between, main is
updated when the same files are synced again.

What touches the disk blocks, and belongs in a thread. One thread may write at a time, and any number may read.
"""

import contextlib
import errno
import os
import re
import time
import weakref
from pathlib import Path

import trio

from rised.crashpoints import crash_point
from rised.linux.copy_tree import remove_tree
from rised.linux.files import disk_may_be_full, make_private, opened, sync_directory, write_all
from rised.revisions import checkout
from rised.revisions.manifest import Plan, is_object_id
from rised.revisions.objects import TEMPORARY, Reader, Writer
from riseml_proto.errors import InvalidInput, NotFound, SyncError
from riseml_proto.messages import Revision

_MAIN = "refs/heads/main"
_HALF_MADE = ".new-"
_ROOM = 1 << 20  # bytes free on the disk before a repository is made
_LONGEST_NAME = 200  # bytes; Linux takes 255 for a file's name, and this gets prefixes and suffixes


class Repository:
    """A project's repository. Call `prepare` first."""

    def __init__(self, state_dir: str, user: str, name: str) -> None:
        """Raises `InvalidInput` for a name that could lead elsewhere, or start as what is half made does."""
        for kind, text in (("user", user), ("project", name)):
            odd = not text.isprintable() or text.startswith(".") or set(text) & set("/<>")
            if not text or odd or len(text.encode()) > _LONGEST_NAME:
                raise InvalidInput(
                    f"{text!r} cannot be the name of a {kind}; use letters and digits"
                )
        self.path = os.path.join(state_dir, "repositories", user, f"{name}.git")
        self.trees = os.path.join(state_dir, "trees", user, name)
        self.objects = os.path.join(self.path, "objects")
        self.writing = trio.Lock()
        self._name = name
        self._locks: weakref.WeakValueDictionary[str, trio.Lock] = weakref.WeakValueDictionary()

    def tree_lock(self, revision: str) -> trio.Lock:
        """Whoever makes or removes the revision's pristine tree holds it."""
        return self._locks.setdefault(revision, trio.Lock())

    def tree_path(self, revision: str) -> str:
        """Where the revision's pristine tree is, or will be. Raises `NotFound`."""
        if not is_object_id(revision):
            raise NotFound(f"{revision!r} is not a revision, which has 40 hex digits")
        return os.path.join(self.trees, revision)

    def prepare(self, create: bool) -> bool:
        """Remove what a dead daemon left half made, or make the repository; False if there is none and not `create`.

        Call it before the repository's first use in a process: then nothing half made is in use.
        """
        if os.path.isdir(self.path):
            self._remove_leftovers()
        elif create:
            with disk_may_be_full(self.path):
                self._create()
        else:
            return False
        checkout.prepare(self.trees)
        return True

    def tree_of(self, revision: str) -> str:
        """The ID of a revision's tree. Raises `NotFound` if the project has no such revision."""
        with Reader(self.objects) as reader, contextlib.suppress(NotFound):
            if is_object_id(revision):
                tree, _ = _parse_commit(reader.read(revision, b"commit"))
                if self._read_ref(_tree_ref(tree)) == revision:
                    return tree
        raise NotFound(f"project {self._name} has no revision {revision!r}; sync it again")

    def tree_without(self, revision: str, name: str) -> str:
        """The ID of the revision's tree without the entry `name`. Raises `NotFound`."""
        from dulwich.objects import Tree

        tree = self.tree_of(revision)
        with Reader(self.objects) as reader:
            entries = Tree.from_string(reader.read(tree, b"tree"))
        if name.encode() in entries:
            del entries[name.encode()]
        return entries.id.decode()

    def commit(self, plan: Plan, user: str) -> Revision:
        """The revision of `plan`, on disk, or the blobs that are missing for it.

        Raises `SyncError` for a symbolic link that cannot be made, and `StorageFull`.
        """
        known = self._read_ref(_tree_ref(plan.root))
        with Reader(self.objects) as reader:
            if known is not None:
                self._bring_up_main(reader, known)
                return Revision(revision=known)
            if missing := reader.missing(plan.blobs):
                return Revision(revision=None, missing=missing)
            _check_links(reader, plan)
            trees = reader.missing(plan.trees)
        with disk_may_be_full(self.path):
            return Revision(revision=self._record(plan, trees, user))

    def _record(self, plan: Plan, trees: list[str], user: str) -> str:
        from dulwich.objects import Commit, ObjectID

        parent = self._read_ref(_MAIN)
        commit = Commit()
        commit.tree = ObjectID(plan.root.encode())
        commit.parents = [ObjectID(parent.encode())] if parent else []
        commit.author = commit.committer = f"{user} <{user}@{os.uname().nodename}>".encode()
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = b"Sync of %d file%s\n" % (plan.files, b"" if plan.files == 1 else b"s")
        revision = commit.id.decode()
        with Writer(self.objects) as writer:
            for tree in trees:
                writer.add(b"tree", tree, plan.trees[tree])
            writer.add(b"commit", revision, commit.as_raw_string())
        # Of the old objects, too: their writer may have died before their names were on disk.
        self._sync_names([revision, *plan.trees, *plan.blobs])
        crash_point("revision-objects-written")
        self._write_ref(_tree_ref(plan.root), revision)
        crash_point("revision-tree-ref-written")
        self._write_ref(_MAIN, revision)
        crash_point("revision-main-written")
        return revision

    def _bring_up_main(self, reader: Reader, revision: str) -> None:
        main = self._read_ref(_MAIN)
        if main == revision:
            return
        parent = _parse_commit(reader.read(revision, b"commit"))[1]
        if parent == main:
            with disk_may_be_full(self.path):
                self._write_ref(_MAIN, revision)

    def _sync_names(self, ids: list[str]) -> None:
        for part in sorted({oid[:2] for oid in ids}):
            directory = os.path.join(self.objects, part)
            if os.path.isdir(directory):  # else they are all packed
                sync_directory(directory)
        sync_directory(self.objects)

    def _read_ref(self, name: str) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            value = Path(self.path, name).read_text("ascii", "replace").strip()
            return value if is_object_id(value) else None
        with contextlib.suppress(FileNotFoundError):  # the owner's `git gc` moves refs here
            packed = Path(self.path, "packed-refs").read_bytes()
            if match := re.search(rb"(?m)^([0-9a-f]{40}) %s$" % re.escape(name.encode()), packed):
                return match[1].decode()
        return None

    def _write_ref(self, name: str, value: str) -> None:
        """Set a ref with git's own locking, so that `git gc` may run at the same time."""
        path = os.path.join(self.path, name)
        lock = f"{path}.lock"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with opened(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644) as fd:
                write_all(fd, f"{value}\n".encode())
                os.fsync(fd)
            os.rename(lock, path)
        except FileExistsError:
            raise SyncError(f"a git command works on {self.path} now ({lock}); try again") from None
        except BaseException:
            os.unlink(lock)
            raise
        sync_directory(os.path.dirname(path))

    def _create(self) -> None:
        from dulwich.repo import Repo

        owner, name = os.path.split(self.path)
        new = os.path.join(owner, _HALF_MADE + name)
        make_private(owner)
        remove_tree(new)
        disk = os.statvfs(owner)
        if disk.f_bavail * disk.f_frsize < _ROOM:  # dulwich prints tracebacks when it runs out
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), owner)
        try:
            os.mkdir(new, 0o700)
            Repo.init_bare(new, default_branch=b"main").close()
            os.mkdir(os.path.join(new, "refs", "trees"))
            for directory, _, _ in os.walk(new):
                sync_directory(directory)
            os.rename(new, self.path)
        except BaseException:
            remove_tree(new)
            raise
        sync_directory(owner)

    def _remove_leftovers(self) -> None:
        for name in os.listdir(self.objects):
            if name.startswith(TEMPORARY):
                os.unlink(os.path.join(self.objects, name))
        for directory in (os.path.dirname(_MAIN), os.path.dirname(_tree_ref(""))):
            path = os.path.join(self.path, directory)
            for name in os.listdir(path) if os.path.isdir(path) else ():
                if name.endswith(".lock") and (is_object_id(name[:-5]) or name == "main.lock"):
                    os.unlink(os.path.join(path, name))


def _tree_ref(tree: str) -> str:
    return f"refs/trees/{tree}"


def _parse_commit(content: bytes) -> tuple[str, str | None]:
    """The tree and the first parent of a commit."""
    match = re.match(rb"tree ([0-9a-f]{40})\n(?:parent ([0-9a-f]{40})\n)?", content)
    if match is None:
        raise NotFound("this object is no revision")
    return match[1].decode(), match[2].decode() if match[2] else None


def _check_links(reader: Reader, plan: Plan) -> None:
    """Refuse symbolic links that cannot be made: the target is empty, contains a NUL or is too long for a path."""
    for blob, path in plan.links.items():
        target = b""
        for piece in reader.chunks(blob, b"blob"):
            target += piece
            if len(target) > 4095:
                break
        if not target or b"\0" in target or len(target) > 4095:
            raise SyncError(f"{path!r}: the target of this symbolic link is not a path")
