"""The options of ssh: the user's configuration, as `ssh -G` prints it, and what that leaves open.

ssh keeps a connection open for ten minutes, so that the user authenticates once. A connection that the user's own
configuration keeps is used where it is open. A dead network is noticed. Options that would disturb a pipe (forwarded
ports and agents, a terminal, the user's own remote command) are turned off, as scp does.
"""

import hashlib
import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from riseml.transport.address import SshAddress
from riseml.transport.unix import LONGEST_PATH, is_private
from riseml_proto.errors import DaemonError

PERSIST = "10m"
"""How long ssh keeps an idle connection open."""
_CONNECT_TIMEOUT = 20  # seconds
_ALIVE_INTERVAL = 10  # seconds; ssh gives up after three of them
_NAME_LENGTH = 20
_SPARE = 1 + _NAME_LENGTH + 17  # ssh appends 17 while it makes the socket
_UNSAFE = frozenset('"$\\')  # characters that have a meaning for ssh
_PIPE = {
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
}
_USUAL = {"StdinNull": "no", "ForkAfterAuthentication": "no", "SessionType": "default"}
"""As _PIPE, but set only where the user's configuration differs: ssh before 8.7 does not know them."""
_QUIET = {"BatchMode": "yes"}


class Call(NamedTuple):
    """A command line of ssh for one host."""

    argv: list[str]
    """Everything before the command that runs there."""
    control: str | None
    """Path of the control socket of the kept connection; None where none can be kept."""

    @property
    def open(self) -> bool:
        """Whether the kept connection is open already."""
        return self.control is not None and is_open(self.control)


def call(address: SshAddress, environ: Mapping[str, str], *, ask: bool = True) -> Call:
    """The command line of ssh for `address`. `ask`: it may ask for passwords. Raises `DaemonError`."""
    user = ["-l", address.user] if address.user else []
    port = ["-p", str(address.port)] if address.port else []
    target = [*user, *port, "--", address.host]
    text = _configuration(target)
    pairs = (line.partition(" ") for line in text.splitlines())
    configured = {name.lower(): value for name, _, value in pairs}
    theirs = configured.get("controlpath", "none")
    if theirs != "none" and is_open(theirs):
        control: str | None = theirs
        keep = {"ControlMaster": "no"}
    else:
        control, keep = None, {"ControlPath": "none"}
        if directory := control_directory(environ, os.getuid()):
            # Hosts with different options get different connections.
            name = hashlib.sha256(text.encode()).hexdigest()[:_NAME_LENGTH]
            control = f"{directory}/{name}"
            quoted = f'"{control.replace("%", "%%")}"'  # as in ssh's configuration file
            keep = {"ControlMaster": "auto", "ControlPersist": PERSIST, "ControlPath": quoted}
    usual = {
        name: value
        for name, value in _USUAL.items()
        if configured.get(name.lower(), value) != value
    }
    watch = {}  # a dead network is noticed, where the user's configuration leaves that open
    if configured.get("serveraliveinterval") == "0":
        watch["ServerAliveInterval"] = str(_ALIVE_INTERVAL)
    if configured.get("connecttimeout") == "none":
        watch["ConnectTimeout"] = str(_CONNECT_TIMEOUT)
    options = {**_PIPE, **usual, **watch, **keep, **({} if ask else _QUIET)}
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return Call(["ssh", "-T", *flags, *target], control)


def control_directory(environ: Mapping[str, str], uid: int) -> str | None:
    """The private directory of control sockets, in $XDG_RUNTIME_DIR or ~/.cache; None where neither can be used."""
    places = [environ.get("XDG_RUNTIME_DIR", ""), os.path.expanduser("~/.cache")]
    for base in places:
        path = os.path.join(base, "riseml")
        if not base.startswith("/") or _UNSAFE & {*path}:
            continue
        if len(os.fsencode(path)) + _SPARE > LONGEST_PATH:
            continue
        with suppress(OSError):
            os.makedirs(path, mode=0o700, exist_ok=True)
            if is_private(path, uid):
                return path
    return None


def is_open(control: str) -> bool:
    """Whether ssh listens at the control socket `control`."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(control)
        except OSError:
            return False
    return True


def _configuration(target: list[str]) -> str:
    """The user's configuration for `target`, as `ssh -G` prints it. Raises `DaemonError`."""
    try:
        done = subprocess.run(
            ["ssh", "-T", "-G", *target],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
        )
    except FileNotFoundError:
        raise DaemonError("there is no ssh here; install OpenSSH's client") from None
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise DaemonError(f"ssh cannot be used for {target[-1]}: {why}; ssh -G {target[-1]}")
    return done.stdout
