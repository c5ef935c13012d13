"""The kernel's errors about a file, as errors that name its URI and the way out."""

import contextlib
import errno
from collections.abc import Iterator

from rised.files.beneath import LeadsOut
from riseml_proto.errors import DaemonError, Forbidden, InvalidInput, NotFound, StorageFull
from riseml_proto.uris import Remote

_WRONG = {
    errno.ENOTDIR: "a name on the way is no directory; riseml ls shows what there is",
    errno.EISDIR: "it is a directory; remove it first, or say another name",
    errno.ELOOP: "links on the way lead in a circle, or something was swapped meanwhile",
    errno.ENAMETOOLONG: "the name is too long for the disk that it lies on",
    errno.EINVAL: "it is no regular file; FIFOs, sockets and devices cannot be copied",
    errno.ENOTEMPTY: "something is still written there; try again",
    errno.EEXIST: "it is there already, and is something else; remove it first",
    errno.ESTALE: "a directory was moved meanwhile; try again",
    errno.EBUSY: "it is in use; try again later",
    errno.EFBIG: "it is larger than files may be on the disk that it lies on",
    errno.EXDEV: "it lies on another disk than its directory",
}


_NOTHING = {
    True: "the data directory is not there; riseml system info names it",
    False: "there is no output; the experiment has not started, or its output was removed",
}
"""Whether it is the data directory → what to say where the whole of it is missing."""


@contextlib.contextmanager
def errors_about(uri: Remote) -> Iterator[None]:
    """Turn each `OSError` of the block into a `RisemlError` about `uri`."""
    try:
        yield
    except LeadsOut:
        raise InvalidInput(
            f"{uri}: a link on the way leads out of what riseml may show; copy what it leads to from there"
        ) from None
    except FileNotFoundError:
        if not uri.path:
            raise NotFound(f"{uri}: {_NOTHING[uri.experiment is None]}") from None
        above = uri._replace(path=uri.path.rpartition(b"/")[0])
        raise NotFound(
            f"{uri}: there is no such file or directory; riseml ls {above} shows what there is"
        ) from None
    except PermissionError:
        raise Forbidden(f"{uri}: you may not; ask whom it belongs to for permission") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"{uri}: no room left on this disk; free some, and the same command goes on"
            ) from None
        if error.errno in _WRONG:
            raise InvalidInput(f"{uri}: {_WRONG[error.errno]}") from None
        raise DaemonError(f"{uri}: {error.strerror}; look at the disk that it lies on") from None
