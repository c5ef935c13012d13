"""What travels about files in output directories and in the data directory; see `riseml_proto.messages`."""

from datetime import datetime

from riseml_proto.messages import Message, Request


class FileInfo(Message, frozen=True):
    """A file or directory below a URI such as `output://144.2/` or `data://`."""

    path: str
    """Relative to what was asked for, written by `riseml_proto.paths.quote`; empty: that itself."""
    type: str
    """`file`, `directory`, `link` or `other` (a FIFO, socket or device: these are never opened)."""
    size: int = 0
    """Bytes."""
    mtime: datetime | None = None
    """When its content last changed."""
    executable: bool = False
    version: str = ""
    """Changes whenever the content does."""
    target: str | None = None
    """Of a link, written as `path` is."""
    offset: int = 0
    """In an answer to `Fetch`: how many bytes of the file are left out, for the caller has them."""
    error: str | None = None
    """Why nothing more can be told or sent of it."""


class List(Request, frozen=True):
    """List a directory, or look at a file; the answer is a `FileInfo` a line, the first one what the URI names."""

    uri: str
    recursive: bool = False
    """All below it."""
    itself: bool = False
    """Not what is in it."""


class Wanted(Request, frozen=True):
    """A file to be sent."""

    path: str
    """Relative to the URI."""
    offset: int = 0
    version: str = ""
    """Leave out `offset` bytes if this is still the file's version."""


class Fetch(Request, frozen=True):
    """Send files. For each the answer has a line, its `FileInfo`, then the bytes from its `offset` to its `size`."""

    uri: str
    files: list[Wanted]


class Stored(Request, frozen=True):
    """One of what is sent to /v1/files/store: a line with this, then the bytes from its `offset` to its `size`."""

    path: str
    """Relative to the URI."""
    type: str = "file"
    """`file`, `directory` or `link`."""
    size: int = 0
    offset: int = 0
    """Of an upload that was interrupted: how much is there already (`Part`)."""
    version: str = ""
    """The sender's word for this content; an upload goes on only where it is the same."""
    mtime: datetime | None = None
    executable: bool = False
    target: str | None = None


class Storing(Message, frozen=True):
    """Answer to /v1/files/store: all is on disk and in its place."""

    stored: int


class PartRequest(Request, frozen=True):
    """Ask how far an upload came."""

    uri: str
    version: str


class Part(Message, frozen=True):
    """How much there is of a file that was not sent to its end."""

    size: int
    """Bytes; 0 where there is nothing to go on with."""


class Remove(Request, frozen=True):
    """Remove files, and with `recursive` directories and all in them. Links are removed, never followed."""

    uris: list[str]
    recursive: bool = False


class Removed(Message, frozen=True):
    """Answer to `Remove`."""

    removed: int
    """Files and directories."""
