"""The working directory of a plain process: a private copy of the project's files."""

import contextlib
import os
from stat import S_ISDIR, S_ISREG

from rised.linux.copy_tree import remove_tree
from rised.log import log
from rised.users.impersonation import impersonating
from rised.users.owner import Owner

_FEW_FILES = 16
_SMALL_FILE = 1 << 16  # bytes


def is_small(directory: str) -> bool:
    """Whether it holds only a few small files: copying or removing those takes less time than asking a thread."""
    try:
        with os.scandir(directory) as entries:
            for count, entry in enumerate(entries):
                stat = entry.stat(follow_symlinks=False)
                if count >= _FEW_FILES or not S_ISREG(stat.st_mode) or stat.st_size > _SMALL_FILE:
                    return False
    except OSError:
        return False
    return True


def remove(directory: str) -> None:
    """Remove a working directory. What cannot be removed, such as a mount that a job left, stays until a restart.

    Another user's is emptied with that user's rights: its owner may still be moving things about in it.
    """
    try:
        stat = os.lstat(directory)
        owner = Owner(stat.st_uid, stat.st_gid)
        if owner.is_other and S_ISDIR(stat.st_mode):
            with impersonating(owner), contextlib.suppress(PermissionError):
                remove_tree(directory)  # all but itself: it lies where only the daemon may write
            os.rmdir(directory)
        else:
            remove_tree(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("cannot remove a working directory", path=directory, error=str(error))
