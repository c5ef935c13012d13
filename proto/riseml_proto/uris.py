"""URIs of files that the daemon keeps: `output://144.2/model.pt` and `data://images/a.png`.

    output://144.2/a/b        in the output directory of sub-experiment 2 of 144
    output://paul.144/        the output directory of the whole of paul's set 144
    data://a/b                in the data directory

A path in a URI is written as `riseml_proto.paths` writes it, so `%` is `%25`. It has no `..`, so that no URI can name a
file outside.
"""

import re
from typing import NamedTuple

from riseml_proto import ids, paths
from riseml_proto.errors import InvalidInput, RisemlError
from riseml_proto.ids import CanonicalId

LONGEST = 4095
"""Bytes in a path."""
PART_PREFIX = b".riseml-part-"
"""The beginning of the names of partial files, on both sides; such files are never copied."""
_LONGEST_NAME = 255
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_LOOK = "such as output://144.2/model.pt or data://images"
# Characters that move a terminal's cursor, end a line or change the writing direction.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Remote(NamedTuple):
    """A file or directory that the daemon can reach."""

    experiment: CanonicalId | None
    """The experiment whose output directory it is in; None for the data directory."""
    path: bytes = b""
    """Relative to that directory, without `/` at either end; empty for the directory itself."""
    slash: bool = False
    """Whether it was written with a `/` at the end, so that it must be a directory."""

    def __str__(self) -> str:
        """The text, which `parse` reads back."""
        end = "/" if self.slash and self.path else ""
        if self.experiment is None:
            return f"data://{show(self.path)}{end}"
        return f"output://{self.experiment}/{show(self.path)}{end}"

    def below(self, path: bytes) -> "Remote":
        """The URI of `path`, relative to this one."""
        joined = b"/".join(part for part in (self.path, path) if part)
        return Remote(self.experiment, joined)

    @property
    def name(self) -> bytes:
        """The name of a copy: the last part of the path, or a name for the whole directory."""
        if self.path:
            return self.path.rpartition(b"/")[2]
        return b"data" if self.experiment is None else str(self.experiment).encode()


def is_remote(text: str) -> bool:
    """Whether `text` is a URI. A local file with such a name can be written as `./data://x`."""
    return _SCHEME.match(text) is not None


def parse(text: str) -> Remote:
    """Read a URI. Raises `InvalidInput` with an example of a URI, or `InvalidId`."""
    match = _SCHEME.match(text)
    if not match:
        raise InvalidInput(f"{text!r} is no place that the daemon knows; say one {_LOOK}")
    scheme, rest = match[1], text[match.end() :]
    experiment = None
    if scheme == "output":
        name, _, rest = rest.partition("/")
        experiment = ids.parse(name)
        if experiment.experiment is None or experiment.job is not None:
            raise InvalidInput(f"{text}: say which experiment's output, {_LOOK}")
    elif scheme != "data":
        raise InvalidInput(f"{text}: there is no {scheme}:// here; say a place {_LOOK}")
    try:
        path = paths.unquote(rest)
    except RisemlError as error:
        raise InvalidInput(f"{error}; a % in a name is written %25") from None
    parts = [part for part in path.split(b"/") if part]
    clean = b"/".join(parts)
    check(clean)
    return Remote(experiment, clean, path.endswith(b"/") or not parts)


def check(path: bytes) -> None:
    """Raise `InvalidInput` where `path` leaves its directory or is too long. Empty is the directory itself."""
    parts = path.split(b"/") if path else []
    if any(part in (b"", b".", b"..") for part in parts) or b"\0" in path:
        raise InvalidInput(f"{show(path)!r}: no name in a path may be empty, . or ..")
    if len(path) > LONGEST or any(len(part) > _LONGEST_NAME for part in parts):
        raise InvalidInput(
            f"{show(path[:60])!r}…: a path has at most {LONGEST} bytes, a name {_LONGEST_NAME}"
        )


def show(path: bytes) -> str:
    """`path` as it is written in a URI, in characters that are safe on a terminal."""
    return _UNSHOWN.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), paths.quote(path)
    )
