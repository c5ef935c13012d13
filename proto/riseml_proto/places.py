"""Where the daemon's socket lies when nobody says: the rule that client and daemon share."""

from collections.abc import Mapping

SYSTEM_SOCKET = "/run/rised/rised.sock"
"""Of a daemon that serves every user of the machine."""


def user_socket(environ: Mapping[str, str], uid: int, *, run_user: bool) -> str:
    """The socket of `uid`'s own daemon; `run_user`: whether /run/user/UID is a directory of
    `uid`'s.

    In $XDG_RUNTIME_DIR, else in /run/user/UID, else in /tmp/rised-UID. Others can write to /tmp, so
    whoever uses that one has to check first that the socket's directory is a directory, `uid`'s,
    and closed to others.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return f"{runtime.rstrip('/')}/rised/rised.sock"
    return f"/run/user/{uid}/rised/rised.sock" if run_user else f"/tmp/rised-{uid}/rised.sock"  # noqa: S108 (checked)
