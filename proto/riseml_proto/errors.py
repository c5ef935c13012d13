"""Every error that a user can meet, in one tree; docs/api.md lists them with codes and HTTP statuses.

The daemon answers with an error's HTTP status and a `Problem`; the client makes the same class of that again. The
client prints the text after `riseml: ` and ends with exit code 2. No module defines such a class anywhere else.
"""

PATIENCE = 30.0
"""Seconds for which a client tries again when a daemon of this machine does not answer."""
_BY_CODE: dict[str, type["RisemlError"]] = {}


class RisemlError(Exception):
    """An error with a text that a user can act on. `str(error)` is that text, without a trailing stop."""

    code = "error"
    status = 500

    def __init_subclass__(cls, code: str = "", status: int = 0) -> None:
        """`code` and `status` (HTTP): the parent's where they are not given."""
        cls.status = status or cls.status
        if code:
            cls.code = code
            _BY_CODE[code] = cls


class InvalidInput(RisemlError, code="invalid", status=400):
    """What the user typed, wrote or sent is wrong. Nothing was done."""


class ConfigError(InvalidInput, code="config", status=422):
    """riseml.yml is wrong. `str()` reads `riseml.yml:7: train.resources.gpus: must be 0 or more, not -1`."""

    def __init__(self, text: str, *, file: str = "", line: int = 0, path: str = "") -> None:
        """Join file, 1-based line (0: none) and dotted path (empty: none) in front of `text`."""
        position = f"{file}:{line}" if file and line else file
        super().__init__(": ".join(part for part in (position, path, text) if part))


class InvalidId(InvalidInput, code="invalid-id"):
    """A text that is not a canonical ID."""


class MethodNotAllowed(InvalidInput, status=405):
    """The path of a request is right, its method is not."""


class SyncError(InvalidInput, code="sync", status=422):
    """The project's files cannot be synced as they are: they changed meanwhile, cannot be read, or lead outside."""


class ProjectTooLarge(SyncError, code="too-large"):
    """The project has more files or bytes than the limits allow."""


class NotFound(RisemlError, code="not-found", status=404):
    """There is no such experiment, project, revision, result or file."""


class Forbidden(RisemlError, code="forbidden", status=403):
    """It exists, but is another user's."""


class Unsatisfiable(RisemlError, code="unsatisfiable", status=422):
    """Asks for more than this machine could ever give; the text has the numbers."""


class QuotaExceeded(RisemlError, code="quota-exceeded", status=403):
    """More than a quota lets this user, or a group of theirs, have; the text has the numbers."""


class StorageFull(RisemlError, code="storage-full", status=507):
    """The daemon's disk has no room left for new experiments."""


class StartFailed(RisemlError, code="start-failed"):
    """A job cannot be started; the text says which file, directory or program stood in the way."""


class NoEngine(StartFailed, code="no-engine"):
    """No container engine answers; the text says where one was looked for, and what to do. It may come back."""


class EngineError(StartFailed, code="engine"):
    """The container engine refuses; the text is its own."""

    def __init__(self, text: str, engine_status: int = 0) -> None:
        """`engine_status`: the HTTP status of the engine's answer, 0 for none."""
        super().__init__(text)
        self.engine_status = engine_status


class ImageFailed(StartFailed, code="image"):
    """An image cannot be had; the text names it and says why."""


class DaemonError(RisemlError, code="daemon", status=503):
    """The daemon is of another version, answers nonsense, or cannot do its work."""


class AlreadyRunning(DaemonError, code="already-running"):
    """Another daemon holds the socket or the state directory."""


class Unreachable(DaemonError, code="unreachable"):
    """Nobody listens, or the connection was cut: the daemon may be restarting."""

    def __init__(
        self,
        text: str,
        *,
        patience: float | None = None,
        notice: str = "the daemon does not answer; waiting for it to come back",
    ) -> None:
        """`patience`: seconds for which a client tries again (PATIENCE); `notice`: what a person reads meanwhile."""
        super().__init__(text)
        self.patience = PATIENCE if patience is None else patience
        self.notice = notice


class SshFailed(Unreachable, code="ssh"):
    """ssh itself failed, so that nothing was learnt of the daemon."""


def describe(error: Exception, otherwise: str = "") -> str:
    """Word an error, one of the kernel as `path: Permission denied`; `otherwise` stands where it names no path."""
    if not isinstance(error, OSError):
        return str(error)
    name = error.filename
    # It may be None, or the number of an open file.
    path = printable(name) if isinstance(name, bytes | str) else otherwise
    return ": ".join(part for part in (path, error.strerror or str(error)) if part)


def printable(path: bytes | str) -> str:
    r"""A path for a message: bytes that are not UTF-8 are written as `\xff`, as `$'\xff'` in a shell has them."""
    raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


def from_code(code: str, text: str) -> RisemlError:
    """The error that a daemon's `Problem` stands for; an unknown code gives a plain `RisemlError`."""
    return _BY_CODE.get(code, RisemlError)(text)
