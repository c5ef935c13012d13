"""The files that ignore files name, exactly as git decides it.

For each entry of a directory git looks for the pattern that matches the entry: the last pattern of
the deepest ignore file comes first. Git does not look into an ignored directory, so nothing in it
can be included again. Each ignore file therefore becomes one regular expression whose alternatives
are its patterns in reverse order: one match gives the pattern that decides. The path of a directory
is matched with a NUL at its end: no name can hold one, and a pattern for directories requires it.

The translation follows git's wildmatch, also for brackets and for the text before the first
wildcard. The tests compare it with `git check-ignore`. Everything is bytes, so names in any encoding
can be matched.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

IGNORE_FILES = (b".gitignore", b".risemlignore")
"""Later ones decide first: `.risemlignore` can bring back what `.gitignore` leaves out."""

_CLASSES = {
    b"alnum": rb"[0-9A-Za-z]",
    b"alpha": rb"[A-Za-z]",
    b"blank": rb"[ \t]",
    b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]",
    b"graph": rb"[!-~]",
    b"lower": rb"[a-z]",
    b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]",
    b"space": rb"[ \t\n\r]",
    b"upper": rb"[A-Z]",
    b"xdigit": rb"[0-9A-Fa-f]",
}
_SPECIAL = re.compile(rb"[*?\[\\]")
_SLASH = ord("/")


class _NeverMatchesError(ValueError):
    """A malformed pattern, which git lets match nothing."""


class Rules:
    """The patterns of one ignore file, for paths relative to the directory it is in."""

    def __init__(self, text: bytes) -> None:
        """Read the content of an ignore file. No content is an error, as in git."""
        patterns = [p for line in _lines(text) if (p := _pattern(line))]
        patterns.reverse()
        self._ignores = [ignores for ignores, _ in patterns]
        self._regex = re.compile(b"|".join(b"(%s)" % regex for _, regex in patterns), re.DOTALL)

    def decide(self, path: bytes) -> bool | None:
        """Whether `path` (a directory's with NUL behind) is ignored; None if no pattern matches."""
        if not self._ignores or not (match := self._regex.fullmatch(path)):
            return None
        assert match.lastindex
        return self._ignores[match.lastindex - 1]


class Layer(NamedTuple):
    """One ignore file in force: its rules, and how many bytes of a path are its directory.

    `prefix` is the way from the file's directory to the project, where the file lies outside of it.
    """

    rules: Rules
    skip: int
    prefix: bytes = b""


class Ignore(NamedTuple):
    """The ignore files in force in one directory: a stack per kind, the deepest file first."""

    stacks: tuple[tuple[Layer, ...], ...] = tuple(() for _ in IGNORE_FILES)

    def inside(self, directory: bytes, texts: tuple[bytes | None, ...]) -> "Ignore":
        """The rules within `directory` (empty, or with `/` behind), whose own ignore files hold `texts`."""
        if not any(texts):
            return self
        return Ignore(
            tuple(
                (Layer(Rules(text), len(directory)), *stack) if text else stack
                for text, stack in zip(texts, self.stacks, strict=True)
            )
        )

    def within(self, layers: tuple[Layer, ...]) -> "Ignore":
        """The rules where a work tree begins, whose rules from outside are `layers`; `.risemlignore` stays in force."""
        return Ignore((layers, *self.stacks[1:]))

    def git(self, path: bytes, *, directory: bool) -> bool:
        """Whether git ignores `path`, relative to the project and in no ignored directory."""
        return _decide(self.stacks[0], path, directory) is True

    def own(self, path: bytes, *, directory: bool) -> bool | None:
        """Whether `.risemlignore` leaves `path` out (True) or brings it in (False); None where it says nothing."""
        return _decide(self.stacks[1], path, directory)


def _decide(stack: tuple[Layer, ...], path: bytes, directory: bool) -> bool | None:
    if directory:
        path += b"\0"
    for rules, skip, prefix in stack:
        if (decision := rules.decide(prefix + path[skip:])) is not None:
            return decision
    return None


def _lines(text: bytes) -> Iterator[bytes]:
    """The patterns as git cuts them: without comments, and without blanks at the end unless escaped."""
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line and not line.startswith(b"#"):
            # Git reads C strings: what follows a NUL is not there.
            line = line.removesuffix(b"\r").partition(b"\0")[0]
            bare = line.rstrip(b" ")
            escapes = len(bare) - len(bare.rstrip(b"\\"))
            yield line[: len(bare) + 1] if escapes % 2 else bare


def _pattern(line: bytes) -> tuple[bool, bytes] | None:
    """Whether a pattern ignores (or includes again), and its regular expression; None for an empty one."""
    negated = line.startswith(b"!")
    body = line[negated:]
    only_directories = body.endswith(b"/")
    body = body.removesuffix(b"/")
    # Only a slash at the start or in the middle ties a pattern to the directory of its file.
    anywhere = b"/" not in body
    body = body.removeprefix(b"/")
    if not body:
        return None
    # Git compares the text before the first wildcard separately, so a `**` right after it counts as
    # leading.
    wild = match.start() if (match := _SPECIAL.search(body)) else len(body)
    try:
        regex = re.escape(body[:wild]) + _translate(body[wild:], anywhere)
    except _NeverMatchesError:
        return None
    return not negated, (rb"(?:.*/)?" if anywhere else b"") + regex + (
        rb"\0" if only_directories else rb"\0?"
    )


def _translate(glob: bytes, within_name: bool) -> bytes:
    """A regular expression for what git's wildmatch lets `glob` match. `within_name`: `**` means the same as `*`."""
    out = bytearray()
    at = 0
    while at < len(glob):
        char = glob[at : at + 1]
        if char == b"*":
            stars = len(glob) - at - len(glob[at:].lstrip(b"*"))
            before, after = glob[at - 1 : at] if at else b"", glob[at + stars :]
            at += stars
            whole_part = before in (b"", b"/") and (not after or after.startswith((b"/", rb"\/")))
            if stars == 1 or within_name or not whole_part:
                out += rb"[^/\0]*"
            elif after.startswith(b"/"):
                out += rb"(?:.*/)?"
                at += 1
            else:
                out += rb"[^\0]*"
        elif char == b"[":
            members, at = _bracket(glob, at + 1)
            out += members
        elif char == b"?":
            out += rb"[^/\0]"
            at += 1
        else:
            at += char == b"\\"
            if at == len(glob):
                raise _NeverMatchesError
            out += re.escape(glob[at : at + 1])
            at += 1
    return bytes(out)


def _bracket(glob: bytes, at: int) -> tuple[bytes, int]:
    """A regular expression for the bracket that was opened just before `at`, and where it ends."""
    negated = glob[at : at + 1] in (b"!", b"^")
    at += negated
    members: set[int] = set()
    low: int | None = None  # what a `-` would start a range from
    first = True
    while first or glob[at : at + 1] != b"]":
        first = False
        if glob.startswith(b"[:", at) and (name := _class_name(glob, at)) is not None:
            if name not in _CLASSES:
                raise _NeverMatchesError
            members.update(code for code in range(256) if re.match(_CLASSES[name], bytes([code])))
            at += len(name) + 4
            low = None
        elif (
            low is not None
            and glob[at : at + 1] == b"-"
            and glob[at + 1 : at + 2] not in (b"", b"]")
        ):
            high, at = _member(glob, at + 1)
            members.update(range(low, high + 1))
            low = None
        else:
            low, at = _member(glob, at)
            members.add(low)
    if negated:
        members = set(range(1, 256)) - members
    members.discard(_SLASH)
    if not members:
        raise _NeverMatchesError
    return b"[%s]" % b"".join(b"\\x%02x" % code for code in sorted(members)), at + 1


def _class_name(glob: bytes, at: int) -> bytes | None:
    """The name in `[:name:]` at `at`; None where a `[` there is a plain character."""
    end = glob.find(b"]", at + 2)
    if end < 0:
        raise _NeverMatchesError
    name = glob[at + 2 : end]
    return name[:-1] if name.endswith(b":") else None


def _member(glob: bytes, at: int) -> tuple[int, int]:
    """The character at `at`, which a backslash may escape, and where the next one begins."""
    at += glob[at : at + 1] == b"\\"
    if at >= len(glob):
        raise _NeverMatchesError
    return glob[at], at + 1
