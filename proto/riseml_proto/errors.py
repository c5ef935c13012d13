"""Every error that a user can meet, in one tree.

    RisemlError                 one sentence that names the place and the way out
    ├── InvalidInput            what the user typed or wrote is wrong
    │   ├── ConfigError         riseml.yml, with file, line and path
    │   ├── InvalidId           not a canonical ID
    │   └── SyncError           the project's files cannot be taken as they are
    ├── NotFound                an ID, project or revision that does not exist
    ├── Forbidden               it belongs to someone else
    ├── Unsatisfiable           asks for more than this machine has
    ├── QuotaExceeded           more than a user or a group may have
    ├── StorageFull             the disk has no room for it
    └── DaemonError             the daemon is not there, too old, too new, or talks nonsense

Both sides raise these: the daemon turns one into an HTTP status and a `Problem`, the client turns that back into the
same class. The client ends with exit code 2 on each of them and prints the text after `riseml: `.
"""

from typing import ClassVar


class RisemlError(Exception):
    """An error with a text that a user can act on. `str(error)` is that text, without a trailing stop."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500


class InvalidInput(RisemlError):
    """What the user typed, wrote or sent is wrong. Nothing was done."""

    code = "invalid"
    status = 400


class ConfigError(InvalidInput):
    """riseml.yml is wrong. `str()` reads `riseml.yml:7: train.resources.gpus: must be 0 or more, not -1`."""

    code = "config"
    status = 422

    def __init__(self, text: str, *, file: str = "", line: int = 0, path: str = "") -> None:
        """Join file, 1-based line (0: none) and dotted path (empty: none) in front of `text`."""
        position = f"{file}:{line}" if file and line else file
        super().__init__(": ".join(part for part in (position, path, text) if part))


class InvalidId(InvalidInput):
    """A text that is not a canonical ID."""

    code = "invalid-id"


class SyncError(InvalidInput):
    """The project's files cannot be synced as they are: too many, too large, changed meanwhile, lead outside."""

    code = "sync"
    status = 422


class NotFound(RisemlError):
    """There is no such experiment, project or revision."""

    code = "not-found"
    status = 404


class Forbidden(RisemlError):
    """It exists, but is another user's."""

    code = "forbidden"
    status = 403


class Unsatisfiable(RisemlError):
    """Asks for more than this machine could ever give; the text has the numbers."""

    code = "unsatisfiable"
    status = 422


class QuotaExceeded(RisemlError):
    """More than a quota lets this user, or a group of theirs, have; the text has the numbers."""

    code = "quota-exceeded"
    status = 403


class StorageFull(RisemlError):
    """The daemon's disk has no room left for new experiments."""

    code = "storage-full"
    status = 507


class DaemonError(RisemlError):
    """The daemon is not there, is of another version, or answers nonsense."""

    code = "daemon"
    status = 503


def _tree(cls: type[RisemlError]) -> dict[str, type[RisemlError]]:
    classes = {cls.code: cls}
    for child in cls.__subclasses__():
        classes |= _tree(child)
    return classes


_BY_CODE = _tree(RisemlError)


def from_code(code: str, text: str) -> RisemlError:
    """The error that a daemon's `Problem` stands for; an unknown code gives a plain `RisemlError`."""
    return _BY_CODE.get(code, RisemlError)(text)
