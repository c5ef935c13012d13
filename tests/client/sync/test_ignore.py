"""What an ignore file leaves out, held against the real git."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from riseml.sync.ignore import Ignore, Rules


def ignored(text: bytes, path: bytes, *, directory: bool = False) -> bool | None:
    return Rules(text).decide(path + b"\0" * directory)


def left_out(rules: Ignore, path: bytes, *, directory: bool) -> bool:
    own = rules.own(path, directory=directory)
    return rules.git(path, directory=directory) if own is None else own


@pytest.mark.parametrize(
    ("pattern", "path", "directory", "expected"),
    [
        (b"*.log", b"a/b/x.log", False, True),
        (b"*.log", b"a/b/x.logs", False, None),
        (b"/x", b"x", False, True),
        (b"/x", b"a/x", False, None),
        (b"a/x", b"b/a/x", False, None),
        (b"x/", b"x", False, None),
        (b"x/", b"a/x", True, True),
        (b"a/*", b"a", True, None),
        (b"a/**", b"a", True, None),
        (b"a/**/b", b"a/b", False, True),
        (b"a/**/b", b"a/c/d/b", False, True),
        (b"**/b", b"a/c/b", False, True),
        (b"a**", b"ab/c", False, None),
        (b"a?", b"a", True, None),
        (b"# x", b"# x", False, None),
        (rb"\# x", b"# x", False, True),
        (rb"\!x", b"!x", False, True),
        (b"x   ", b"x", False, True),
        (b"x\\   ", b"x ", False, True),
        (b"x\r", b"x", False, True),
        (b"*", b"line\nbreak", False, True),
        (b"[a-c]x", b"bx", False, True),
        (b"[!a-c]x", b"bx", False, None),
        (b"[]-]", b"]", False, True),
        (b"[[:digit:]]", b"7", False, True),
        (b"[z-a]", b"m", False, None),
        (b"[a", b"[a", False, None),
        ("ü*".encode(), "übung".encode(), False, True),
        (b"\xff?", b"\xff\xfe", False, True),
        (b"*.log\n!keep.log", b"keep.log", False, False),
        (b"!keep.log\n*.log", b"keep.log", False, True),
    ],
)
def test_one_pattern(pattern: bytes, path: bytes, directory: bool, expected: bool | None) -> None:
    assert ignored(pattern, path, directory=directory) is expected


def test_the_deepest_ignore_file_decides_first() -> None:
    top = Ignore().inside(b"", (b"*.csv", None))
    below = top.inside(b"data/", (b"!train.csv\n/local", None))
    assert left_out(top, b"train.csv", directory=False)
    assert not left_out(below, b"data/train.csv", directory=False)
    assert left_out(below, b"data/test.csv", directory=False)
    assert left_out(below, b"data/local", directory=True)
    assert not left_out(below, b"data/more/local", directory=True)


def test_risemlignore_brings_back_what_any_gitignore_leaves_out() -> None:
    rules = Ignore().inside(b"", (b"data/\n*.bin", b"!data/\n*.md"))
    assert not left_out(rules, b"data", directory=True)
    assert left_out(rules, b"data/x.bin", directory=False)
    assert left_out(rules, b"README.md", directory=False)
    assert not left_out(rules.inside(b"data/", (b"*.txt", b"!x.*")), b"data/x.bin", directory=False)


class Git:
    """The real git in a repository of its own, asked what a .gitignore leaves out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", "init", "-q"], cwd=root, env=self.env, check=True)

    def kept(self, text: bytes, paths: list[bytes]) -> set[bytes]:
        """Which of the files at `paths` git does not ignore where `text` is the .gitignore."""
        (self.root / ".gitignore").write_bytes(text)
        done = subprocess.run(
            ["git", "check-ignore", "-z", "--stdin", "--no-index"],
            cwd=self.root,
            env=self.env,
            input=b"\0".join(b"./" + path for path in paths),  # a bare `:` would be magic
            stdout=subprocess.PIPE,
            check=False,
        )
        assert done.returncode in (0, 1)
        return set(paths) - {path.removeprefix(b"./") for path in done.stdout.split(b"\0")}


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    return Git(tmp_path_factory.mktemp("repository"))


PIECES = [
    "*",
    "**",
    "?",
    "/",
    "a",
    "b",
    "ab",
    ".",
    "\\",
    "[",
    "]",
    "!",
    "^",
    "-",
    " ",
    "#",
    "[:alpha:]",
    "[:digit:]",
]
PIECES += [
    "[ab]",
    "[!a]",
    "[a-c]",
    "a/",
    "/b",
    "**/",
    "/**",
    "[]a]",
    "\\/",
    "c",
    "\n",
    "\r",
    ":",
    "[:space:]",
]
patterns = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
texts = st.lists(patterns, min_size=1, max_size=5).map(lambda lines: "\n".join(lines).encode())
names = st.sampled_from(
    [
        b"a",
        b"b",
        b"c",
        b"ab",
        b"ba",
        b"a b",
        b"a.b",
        b"[a",
        b"-",
        b"#a",
        b"!a",
        b"a\nb",
        b"a ",
        b"\\",
    ]
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)


def ignored_on_the_way_down(text: bytes, path: bytes) -> bool:
    """What a scan that never enters an ignored directory makes of the file at `path`."""
    rules = Ignore().inside(b"", (text, None))
    parts = path.split(b"/")
    parents = (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
    return any(left_out(rules, parent, directory=True) for parent in parents) or left_out(
        rules, path, directory=False
    )


@settings(max_examples=120, deadline=None)
@given(texts, st.lists(paths, min_size=20, max_size=40))
@example(b"a**/b", [b"ab", b"acc/b", b"acc/d/b"])
@example(b"x/a**", [b"x/a", b"x/ab/c"])
@example(
    b"[[:space:]]\n[[:punct:]]\n[[:cntrl:]]",
    [bytes([code]) for code in range(1, 256) if code not in b"/."],
)
@example(
    b"[[:graph:]]\n[[:blank:]]", [bytes([code]) for code in range(1, 256) if code not in b"/."]
)
@example(
    b"[[:alnum:]]\n[[:xdigit:]]", [bytes([code]) for code in range(1, 256) if code not in b"/."]
)
@example(
    b"[[:print:]]\n![[:upper:][:lower:]]",
    [bytes([code]) for code in range(1, 256) if code not in b"/."],
)
def test_git_decides_the_same(git: Git, text: bytes, files: list[bytes]) -> None:
    files = sorted(set(files))
    ours = {path for path in files if not ignored_on_the_way_down(text, path)}
    assert ours == git.kept(text, files)
