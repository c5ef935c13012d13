"""A git work tree around a project or in it: the ignore rules from outside of the project, and the tracked files.

Git is asked where it is installed: for its configuration, and once something is ignored, for the files that it tracks.
Nothing that a repository could configure is executed. Where git is not there, or refuses, its files are read here.
"""

import os
import stat
import subprocess
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from shutil import which

from riseml.settings import user_directory
from riseml.sync import git_index
from riseml.sync.files import show
from riseml.sync.ignore import Layer, Rules

_TIMEOUT = 20  # seconds; an index on a network's disk may take some
_LARGEST = 1 << 20  # bytes of a file of rules, so that /dev/zero is not read for ever
_DROPPED = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
    "GIT_ICASE_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
)
"""What a hook or an alias of git sets for its own repository, which may be another one."""


class WorkTree:
    """The part of a work tree that is in a project."""

    def __init__(
        self, root: bytes, base: bytes, note: Callable[[str], None], environ: Mapping[str, str]
    ) -> None:
        """The one that holds the directory `root`/`base`, where `base` is empty or ends with `/`.

        `note` takes a sentence for the user.
        """
        self._base = base
        self._directory = os.path.realpath(root + b"/" + base)
        self._note = note
        self._environ = environ
        self._top, self._git_dir = _find(self._directory)

    def __bool__(self) -> bool:
        """Whether there is a work tree at all."""
        return bool(self._git_dir)

    def tracks(self, path: bytes, *, directory: bool) -> bool:
        """Whether git tracks `path`, relative to the project; a directory where it tracks something in it."""
        path = path[len(self._base) :]
        at = bisect_left(self._tracked, path)
        if self._tracked[at : at + 1] == [path]:
            return True
        if not directory:
            return False
        inside = path + b"/"
        at = bisect_left(self._tracked, inside)
        return at < len(self._tracked) and self._tracked[at].startswith(inside)

    def layers(self) -> tuple[Layer, ...]:
        """The rules from outside of the directory, the first deciding; none where they leave out the directory itself.

        A user who runs a project in an ignored directory means its files, and git has no opinion on them.
        """
        if not self:
            return ()
        way = os.path.relpath(self._directory, self._top)
        parts = [] if way == b"." else way.split(b"/")
        common = self._common_directory()
        outer = [(_read(path), 0) for path in (common + b"/info/exclude", self._excludes_file())]
        rules = [(Rules(text), depth) for text, depth in outer if text]
        for depth in range(len(parts)):
            above = os.path.join(self._top, *parts[:depth])
            if text := _read(above + b"/.gitignore", os.O_NOFOLLOW):
                rules.insert(0, (Rules(text), depth))
            for rule, at in rules:
                decision = rule.decide(b"/".join(parts[at : depth + 1]) + b"\0")
                if decision:
                    return ()
                if decision is not None:
                    break
        return tuple(
            Layer(rule, len(self._base), b"".join(part + b"/" for part in parts[at:]))
            for rule, at in rules
        )

    @cached_property
    def _tracked(self) -> list[bytes]:
        """The tracked paths in the directory, relative to it, sorted."""
        if not self:
            return []
        listed = self._ask("ls-files", "-z", "--cached", missing=self._indexed) or b""
        return listed.split(b"\0")[:-1]  # sorted; a file in conflict is there several times

    def _indexed(self) -> bytes:
        """What `git ls-files -z` would print, read without git."""
        way = os.path.relpath(self._directory, self._top)
        prefix = b"" if way == b"." else way + b"/"
        try:
            with open(self._git_dir + b"/index", "rb") as file:
                known = git_index.paths(file.read())
        except OSError:  # a repository without an index tracks nothing
            return b""
        return b"".join(b"%s\0" % path[len(prefix) :] for path in known if path.startswith(prefix))

    def _excludes_file(self) -> bytes:
        """Path of `core.excludesFile`, or git's default for it."""
        name = self._ask(
            "config", "-z", "--type=path", "--get", "core.excludesFile", missing=self._configured
        )
        if name:
            return os.path.join(self._top, name.rstrip(b"\0"))
        base = user_directory(self._environ, "XDG_CONFIG_HOME", "~/.config")
        return os.fsencode(os.path.join(base, "git", "ignore"))

    def _configured(self) -> bytes | None:
        """`core.excludesFile` as git's own files have it, read without git."""
        from dulwich.config import ConfigFile

        base = user_directory(self._environ, "XDG_CONFIG_HOME", "~/.config")
        own = [os.path.join(base, "git", "config"), os.path.expanduser("~/.gitconfig")]
        if chosen := self._environ.get("GIT_CONFIG_GLOBAL"):
            own = [chosen]
        value = None
        for path in ("/etc/gitconfig", *own, os.fsdecode(self._common_directory() + b"/config")):
            try:
                value = ConfigFile.from_path(path).get(b"core", b"excludesFile")
            except (OSError, KeyError, ValueError):
                continue
        return os.path.expanduser(value) if value else None

    def _common_directory(self) -> bytes:
        """The repository's directory that all its work trees share."""
        common = _read(self._git_dir + b"/commondir")
        return os.path.join(self._git_dir, common.strip()) if common else self._git_dir

    def _ask(self, *words: str, missing: Callable[[], bytes | None]) -> bytes | None:
        """What `git` prints; what `missing` returns where it cannot be asked, and nothing where it has no answer."""
        program = which("git", path=self._environ.get("PATH"))
        if program:
            trouble = "it took too long"
            try:
                done = subprocess.run(
                    [program, "-c", "core.fsmonitor=false", *words],
                    cwd=self._directory,
                    env={
                        **{k: v for k, v in self._environ.items() if k not in _DROPPED},
                        "GIT_OPTIONAL_LOCKS": "0",
                        "GIT_TERMINAL_PROMPT": "0",
                        "LC_ALL": "C",
                    },
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_TIMEOUT,
                    check=False,
                )
                if done.returncode == 0:
                    return done.stdout
                if done.returncode == 1:  # a setting that is not there
                    return b""
                trouble = done.stderr.decode("utf-8", "replace").partition("\n")[0]
            except subprocess.TimeoutExpired:
                pass
            except OSError as error:
                trouble = str(error.strerror)
            self._tell(trouble)
        return missing()

    def _tell(self, trouble: str) -> None:
        top = show(self._top)
        if "dubious ownership" in trouble:
            self._note(
                f"git refuses {top}, which another user owns; its ignore rules were read without git "
                f"(git config --global --add safe.directory {top} lets git read it)"
            )
        else:
            self._note(f"git does not answer for {top} ({trouble}); its files were read without it")


def is_top(directory: bytes) -> bool:
    """Whether a work tree of git begins at `directory`."""
    return _git_directory(directory) is not None


def _find(directory: bytes) -> tuple[bytes, bytes]:
    """The top of the work tree around `directory` and its `.git` directory; two empty names where there is none."""
    for above in _upwards(directory):
        if found := _git_directory(above):
            return above, found
    return b"", b""


def _upwards(directory: bytes) -> Iterator[bytes]:
    yield directory
    while directory != b"/":
        directory = os.path.dirname(directory)
        yield directory


def _git_directory(top: bytes) -> bytes | None:
    """The directory of the repository that `top`/.git is or names; None where there is none."""
    path = os.path.join(top, b".git")
    if text := _read(path):
        if not text.startswith(b"gitdir: "):
            return None
        path = os.path.join(top, text.removeprefix(b"gitdir: ").rstrip(b"\r\n"))
    return path if os.path.lexists(path + b"/HEAD") else None


def _read(path: bytes, flags: int = 0) -> bytes:
    """The content of a regular file; nothing where it cannot be read, as git does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except OSError:
        return b""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with open(fd, "rb") as file:
        return file.read(_LARGEST)
