"""A daemon's address: `unix:///path` or `ssh://[user@]host[:port][/path]`.

Parts of it become arguments of ssh and, through ssh_config (ProxyCommand with %h and %r), parts of shell commands. So
only what OpenSSH itself accepts there is accepted here.
"""

import os
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from riseml_proto.errors import InvalidInput

_NO_HOST = re.compile(r"""^-|['"`$\\;&<>|(){}\s\x00-\x1f\x7f@/]""")
_NO_USER = re.compile(r"""^-|['"`;&<>|(){}\s\x00-\x1f\x7f]|\\$""")
_NO_PATH = re.compile(r"[\x00-\x1f\x7f]")


class SshAddress(NamedTuple):
    """A machine that ssh reaches, and a daemon on it."""

    host: str
    """A name in the user's ssh_config or in DNS, or an IP address."""
    user: str | None = None
    port: int | None = None
    socket: str | None = None
    """Path of the daemon's socket there. None: the daemon that a command typed there would use."""

    @property
    def destination(self) -> str:
        """The arguments of `ssh` as a person would type them."""
        port = f"-p {self.port} " if self.port else ""
        return port + (f"{self.user}@{self.host}" if self.user else self.host)


def parse(text: str) -> str | SshAddress:
    """The socket's path of a `unix://` address, or the parts of an `ssh://` address. Raises `InvalidInput`."""
    scheme, _, rest = text.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return unquote(rest)
    if scheme == "ssh":
        return _ssh(text, rest)
    if meant := _meant(text):
        raise InvalidInput(f"{text!r} is no daemon's address; did you mean {meant}?")
    raise InvalidInput(
        f"{text!r} is no daemon's address; --host and RISEML_HOST take unix:///path/of/its/socket "
        "and ssh://[user@]host[:port][/path/of/its/socket]"
    )


def _meant(text: str) -> str | None:
    """The address that a text without its scheme, or with half of one, probably stands for."""
    scheme, colon, rest = text.partition(":")
    if "://" in text and scheme not in ("unix", "ssh"):
        return None
    known = colon and scheme in ("unix", "ssh")
    place = rest.lstrip("/") if known else text
    if not place:
        return None
    if (known and scheme == "unix") or (not known and place.startswith(("/", "./", "~"))):
        path = os.path.abspath(os.path.expanduser("/" + place if rest.startswith("/") else place))
        return f"unix://{quote(path)}"
    try:
        _ssh("", place)
    except InvalidInput:
        return None
    return f"ssh://{place}"


def _ssh(text: str, rest: str) -> SshAddress:
    authority, slash, path = rest.partition("/")
    user, at, location = authority.rpartition("@")
    host, port = _split_port(text, location)
    if not host or _NO_HOST.search(host):
        raise _wrong(text, f"{host!r} is no name of a host")
    user = unquote(user)
    if at and ":" in user:
        raise _wrong(text, "a password cannot stand there; ssh asks for it, or better uses a key")
    if at and (not user or _NO_USER.search(user)):
        raise _wrong(text, f"{user!r} is no name of a user")
    path = unquote(slash + path)
    if _NO_PATH.search(path):
        raise _wrong(text, "its path holds a control character")
    return SshAddress(host, user or None, port, path if path.strip("/") else None)


def _split_port(text: str, location: str) -> tuple[str, int | None]:
    if location.startswith("["):  # an IPv6 address has colons of its own
        host, closed, rest = location[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise _wrong(text, "an IPv6 address is written ssh://[::1]:22")
        port = rest[1:]
    else:
        host, colon, port = location.partition(":")
        if ":" in port:
            raise _wrong(text, "an IPv6 address is written ssh://[::1]:22")
        if colon and not port:
            raise _wrong(text, "a number must follow the colon")
    if not port:
        return host, None
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise _wrong(text, f"{port!r} is no port")
    return host, int(port)


def _wrong(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"{text!r}: {why}; write ssh://[user@]host[:port][/path/of/its/socket]")
