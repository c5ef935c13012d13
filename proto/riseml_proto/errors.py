"""Every error that a user can meet, in one tree: class, code, HTTP status, and what it is about.

    RisemlError              error            500  anything else
    ├── InvalidInput         invalid          400  what the user typed, wrote or sent is wrong
    │   ├── ConfigError      config           422  riseml.yml is wrong; file, line and path say where
    │   ├── InvalidId        invalid-id       400  not a canonical ID
    │   ├── MethodNotAllowed invalid          405  the path of a request is right, its method is not
    │   └── SyncError        sync             422  the project's files cannot be taken as they are
    │       └── ProjectTooLarge too-large     422  the project has too many files or bytes
    ├── NotFound             not-found        404  there is no such experiment, project or file
    ├── Forbidden            forbidden        403  it belongs to someone else
    ├── Unsatisfiable        unsatisfiable    422  asks for more than this machine has
    ├── QuotaExceeded        quota-exceeded   403  more than a user or a group may have
    ├── StorageFull          storage-full     507  the disk has no room for it
    ├── StartFailed          start-failed     500  a job cannot be started
    │   ├── NoEngine         no-engine        500  no container engine answers
    │   ├── EngineError      engine           500  the container engine refuses
    │   └── ImageFailed      image            500  an image cannot be had
    └── DaemonError          daemon           503  the daemon is of another version, or talks nonsense
        ├── AlreadyRunning   already-running  503  another daemon is in the way of this one
        └── Unreachable      unreachable      503  the daemon does not answer
            └── SshFailed    ssh              503  ssh itself failed

The daemon answers with an error's HTTP status and a `Problem`; the client makes the same class of that again. The
client prints the text after `riseml: ` and ends with exit code 2. No module defines such a class anywhere else.
"""

from typing import ClassVar

PATIENCE = 30.0
"""Seconds for which a client tries again when a daemon of this machine does not answer."""


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


class MethodNotAllowed(InvalidInput):
    """The path of a request is right, its method is not."""

    status = 405


class SyncError(InvalidInput):
    """The project's files cannot be synced as they are: they changed meanwhile, cannot be read, or lead outside."""

    code = "sync"
    status = 422


class ProjectTooLarge(SyncError):
    """The project has more files or bytes than the limits allow."""

    code = "too-large"


class NotFound(RisemlError):
    """There is no such experiment, project, revision, result or file."""

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


class StartFailed(RisemlError):
    """A job cannot be started; the text says which file, directory or program stood in the way."""

    code = "start-failed"


class NoEngine(StartFailed):
    """No container engine answers; the text says where one was looked for. It may come back."""

    code = "no-engine"


class EngineError(StartFailed):
    """The container engine refuses; the text is its own."""

    code = "engine"

    def __init__(self, text: str, engine_status: int = 0) -> None:
        """`engine_status`: the HTTP status of the engine's answer, 0 for none."""
        super().__init__(text)
        self.engine_status = engine_status


class ImageFailed(StartFailed):
    """An image cannot be had; the text names it and says why."""

    code = "image"


class DaemonError(RisemlError):
    """The daemon is of another version, answers nonsense, or cannot do its work."""

    code = "daemon"
    status = 503


class AlreadyRunning(DaemonError):
    """Another daemon holds the socket or the state directory."""

    code = "already-running"


class Unreachable(DaemonError):
    """Nobody listens, or the connection was cut: the daemon may be restarting."""

    code = "unreachable"

    def __init__(
        self,
        text: str,
        *,
        patience: float | None = None,
        notice: str = "the daemon does not answer; waiting for it to come back",
    ) -> None:
        """`patience`: the seconds for which a client tries again (default: PATIENCE).

        `notice`: the text that a person reads in that time.
        """
        super().__init__(text)
        self.patience = PATIENCE if patience is None else patience
        self.notice = notice


class SshFailed(Unreachable):
    """ssh itself failed, so that nothing was learnt of the daemon."""

    code = "ssh"


_BY_CODE = {
    kind.code: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, RisemlError) and "code" in vars(kind)
}


def from_code(code: str, text: str) -> RisemlError:
    """The error that a daemon's `Problem` stands for; an unknown code gives a plain `RisemlError`."""
    return _BY_CODE.get(code, RisemlError)(text)
