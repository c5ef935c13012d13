"""A job's private copy of a tree, and the removal of trees whatever a job did to them.

A copy shares blocks with the original where the file system can do so (a reflink), but never the file itself: a job
that writes into its copy changes no other. Paths are bytes in here, as the names of files are.
"""

import contextlib
import errno
import os
import stat

from rised.linux.files import disk_may_be_full, opened, write_all

_SMALL = 1 << 16  # bytes; up to here a read and a write are the fastest
_UNSUPPORTED = {
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EPERM,  # a container's system call filter
}


def copy_tree(pristine: str, target: str, uid: int, gid: int) -> None:
    """Make `target`, which must not exist, a copy of the tree `pristine`: files, modes and links.

    In the end it belongs to the user `uid`. Before that no other user than the daemon's can enter it, and so nobody can
    swap a part of it for a link. Raises `StorageFull`. If it fails or is cancelled, the caller removes what there is.
    """
    owner = (uid, gid) if uid != os.geteuid() else None
    with disk_may_be_full(target):
        left = [(os.fsencode(pristine), os.fsencode(target))]
        os.mkdir(target, 0o700 if owner else 0o755)
        while left:
            source, copy = left.pop()
            with os.scandir(source) as entries:
                for entry in entries:
                    to = copy + b"/" + entry.name
                    if entry.is_symlink():
                        os.symlink(os.readlink(entry.path), to)
                    elif entry.is_dir(follow_symlinks=False):
                        os.mkdir(to, 0o755)
                        left.append((entry.path, to))
                    else:
                        _copy_file(entry.path, to)
                    if owner:
                        os.chown(to, *owner, follow_symlinks=False)
        if owner:
            os.chown(target, *owner)


def _copy_file(source: bytes, target: bytes) -> None:
    with opened(source, os.O_RDONLY | os.O_NOFOLLOW) as reading:
        status = os.fstat(reading)
        mode = stat.S_IMODE(status.st_mode)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with opened(target, flags, mode) as writing:
            os.fchmod(writing, mode)  # whatever the umask
            if status.st_size <= _SMALL:
                write_all(writing, os.read(reading, _SMALL))
            else:
                _copy_content(reading, writing, status.st_size)


def _copy_content(reading: int, writing: int, size: int) -> None:
    left = size
    try:
        # This clones where the file system can: Linux tries that first, from 4.8 on.
        while left > 0 and (copied := os.copy_file_range(reading, writing, left)):
            left -= copied
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    while data := os.read(reading, 1 << 20):  # the rest, or all of it
        write_all(writing, data)


def remove_tree(path: str) -> None:
    """Remove whatever is at `path`: nothing, a file, a link (not its target) or a whole tree.

    Directories that the job closed, even to itself, are opened first. The tree may be deeper than a path can be long.
    Nothing may write in it any more. Raises `OSError` where a part cannot be removed: another user's, or a mount point.
    """
    raw = os.fsencode(path).rstrip(b"/")
    name = os.path.basename(raw)
    with (
        contextlib.suppress(FileNotFoundError),
        # With O_PATH no right to read the directory above is needed, which may belong to another user.
        opened(os.path.dirname(raw) or b".", os.O_PATH | os.O_DIRECTORY) as above,
    ):
        try:
            os.unlink(name, dir_fd=above)
        except (IsADirectoryError, PermissionError):
            if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                raise
            _remove_directory(above, name)


def _remove_directory(above: int, name: bytes) -> None:
    """Remove the directory `name` in `above`. Only a few directories are open at a time, at any depth."""
    here, parents = _open_directory(above, name), [(name, _identity(above))]
    try:
        pending = [_remove_files(here)]
        while True:
            if pending[-1]:
                child = pending[-1].pop()
                inside = _open_directory(here, child)
                parents.append((child, _identity(here)))
                os.close(here)
                here = inside
                pending.append(_remove_files(here))
                continue
            child, identity = parents.pop()
            pending.pop()
            if not parents:
                break
            outside = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = outside
            if _identity(here) != identity:
                raise OSError(errno.EBUSY, "moved while it was being removed", os.fsdecode(child))
            os.rmdir(child, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=above)


def _open_directory(above: int, name: bytes) -> int:
    """Open the directory `name`; first make it readable and writable for its owner."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        fd = os.open(name, os.O_RDONLY | flags, dir_fd=above)
    except PermissionError:
        with opened(name, os.O_PATH | flags, dir_fd=above) as handle:
            # fchmod refuses an O_PATH descriptor. Its name in /proc can be changed, and leads nowhere else.
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
            return os.open(name, os.O_RDONLY | flags, dir_fd=above)
    try:
        if os.fstat(fd).st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _remove_files(directory: int) -> list[bytes]:
    """Remove everything but directories; return the names of these."""
    directories = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(os.fsencode(entry.name))
            else:
                os.unlink(entry.name, dir_fd=directory)
    return directories


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino
