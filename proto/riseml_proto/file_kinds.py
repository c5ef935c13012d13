"""What may stand where a file should be. A FIFO would hold up who opens it, and a device may never end."""

import stat

_KINDS = {
    stat.S_IFIFO: "is a FIFO, not a file",
    stat.S_IFDIR: "is a directory, not a file",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}
_NULL = 0x103
"""The device number of /dev/null."""


def wrong_kind(mode: int, device: int) -> str | None:
    """What is wrong with a path of this `st_mode` and `st_rdev`; None for a file, and for /dev/null."""
    if stat.S_ISCHR(mode) and device == _NULL:
        return None
    return _KINDS.get(stat.S_IFMT(mode))


def is_descriptor(path: str) -> bool:
    """Whether `path` names what this process was given open, such as the shell's `<(…)`: that may be a pipe."""
    return path == "/dev/stdin" or path.startswith(("/dev/fd/", "/proc/self/fd/"))
