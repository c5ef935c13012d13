"""Messages about files in output directories and in the data directory; see `riseml_proto.messages`."""

from datetime import datetime

from riseml_proto.messages import ClientMessage, Message


class FileInfo(Message, frozen=True):
    """A file or directory below a URI such as `output://144.2/` or `data://`."""

    path: str
    """Relative to the URI, written by `riseml_proto.paths.quote`; empty for the URI itself."""
    type: str
    """`file`, `directory`, `link` or `other` (a FIFO, socket or device: these are never opened)."""
    size: int = 0
    """Bytes."""
    mtime: datetime | None = None
    """When its content was last changed."""
    executable: bool = False
    version: str = ""
    """A text that changes whenever the content does."""
    target: str | None = None
    """A link's target, written as `path` is."""
    offset: int = 0
    """In an answer to `Fetch`: the bytes at the beginning that are left out, because the caller has them."""
    error: str | None = None
    """Why the file cannot be read."""


class List(ClientMessage, frozen=True):
    """List a directory or look up a file. The answer is a `FileInfo` a line; the first is the URI itself."""

    uri: str
    recursive: bool = False
    """List everything below the directory."""
    itself: bool = False
    """List only the file or directory itself."""


class Wanted(ClientMessage, frozen=True):
    """A file that `Fetch` asks for."""

    path: str
    """Relative to the URI."""
    offset: int = 0
    version: str = ""
    """The first `offset` bytes are left out if the file still has this version."""


class Fetch(ClientMessage, frozen=True):
    """Ask for files. For each the answer has a line, its `FileInfo`, then its bytes from `offset` to `size`."""

    uri: str
    files: list[Wanted]


class Stored(ClientMessage, frozen=True):
    """A file in the body of POST /v1/files/store: a line with this, then its bytes from `offset` to `size`."""

    path: str
    """Relative to the URI."""
    type: str = "file"
    """`file`, `directory` or `link`."""
    size: int = 0
    offset: int = 0
    """Of an upload that was interrupted: the bytes that are there already (`Part`)."""
    version: str = ""
    """The sender's name for this content; an upload is continued only where it is the same."""
    mtime: datetime | None = None
    executable: bool = False
    target: str | None = None


class Storing(Message, frozen=True):
    """Answer to /v1/files/store: everything is on disk under its own name."""

    stored: int


class PartRequest(ClientMessage, frozen=True):
    """Ask how much of an interrupted upload there is."""

    uri: str
    version: str


class Part(Message, frozen=True):
    """Answer to `PartRequest`."""

    size: int
    """Bytes that are there; 0 where the upload has to begin anew."""


class Remove(ClientMessage, frozen=True):
    """Remove files, and with `recursive` directories and all in them. Links are removed, never followed."""

    uris: list[str]
    recursive: bool = False


class Removed(Message, frozen=True):
    """Answer to `Remove`."""

    removed: int
    """Files and directories."""
