"""Path of the daemon's socket where none is given: the rule that client and daemon share."""

from collections.abc import Mapping

SYSTEM_SOCKET = "/run/rised/rised.sock"
"""The socket of the daemon that serves every user of the machine."""


def user_socket(environ: Mapping[str, str], uid: int, *, run_user: bool) -> str:
    """The socket of `uid`'s own daemon: in $XDG_RUNTIME_DIR, /run/user/UID or /tmp/rised-UID.

    `run_user`: whether /run/user/UID is a directory of `uid`'s. Others can write to /tmp, so the caller has to check
    that the socket's directory belongs to `uid` and is closed to others.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return f"{runtime.rstrip('/')}/rised/rised.sock"
    return f"/run/user/{uid}/rised/rised.sock" if run_user else f"/tmp/rised-{uid}/rised.sock"  # noqa: S108 (checked)
