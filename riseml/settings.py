"""The user's settings in ~/.config/riseml/config.yml: `host`, and `remote-command` for hosts behind ssh.

They are read only where neither --host nor RISEML_HOST is given, or ssh is used. The YAML reader is imported only for
them.
"""

import errno
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from riseml.transport import address
from riseml.transport.address import SshAddress
from riseml_proto.errors import ConfigError, InvalidInput
from riseml_proto.file_kinds import is_descriptor, wrong_kind

if TYPE_CHECKING:
    from riseml_proto.value import Value

_HOST, _REMOTE_COMMAND = "host", "remote-command"
# No character that a shell changes within single quotes, or that ends a command.
_COMMAND = re.compile(r"[\w./~+:=,@%$-]+( [\w./~+:=,@%$-]+)*", re.ASCII)
_LARGEST = 1 << 16  # bytes, so that /dev/zero is not read for ever


def user_directory(environ: Mapping[str, str], variable: str, default: str) -> str:
    """The directory in a `variable` such as XDG_CACHE_HOME, else `default`. The standard forbids relative ones."""
    path = environ.get(variable, "")
    return path if path.startswith("/") else os.path.expanduser(default)


def config_file(environ: Mapping[str, str]) -> str:
    """Path of the settings, in $XDG_CONFIG_HOME, by default ~/.config."""
    base = user_directory(environ, "XDG_CONFIG_HOME", "~/.config")
    return os.path.join(base, "riseml", "config.yml")


class RemoteCommand(NamedTuple):
    """How riseml is called on another machine."""

    text: str | None
    """A few words for a shell; None where none is set."""
    hint: str
    """What to write where to set another, for an error."""


def configured_host(environ: Mapping[str, str]) -> str | SshAddress | None:
    """The value of `host:`, as `address.parse` returns it; None where it is not set. Raises `ConfigError`."""
    value = _read(config_file(environ)).get(_HOST)
    if value is None:
        return None
    host = value.text()
    try:
        return address.parse(host)
    except InvalidInput as error:
        raise value.error(str(error)) from None


def remote_command(environ: Mapping[str, str], wanted: SshAddress) -> RemoteCommand:
    """What `remote-command:` says of a host, by its name or as `user@host`. Raises `ConfigError`."""
    path = config_file(environ)
    hint = (
        f"write into {path} how it is called there: {_REMOTE_COMMAND}: "
        f"{{{wanted.host}: ~/venv/bin/riseml}}"
    )
    commands = _read(path).get(_REMOTE_COMMAND)
    if commands is None:
        return RemoteCommand(None, hint)
    texts = {}
    for host, value in commands.entries().items():
        texts[host] = value.text()
        if not _COMMAND.fullmatch(texts[host]):
            raise value.error(
                "must be a path or a few words of letters, digits and _ . / ~ + : = , @ % $ -, "
                "such as ~/venv/bin/riseml; for what holds others make a link"
            )
    return RemoteCommand(texts.get(f"{wanted.user}@{wanted.host}", texts.get(wanted.host)), hint)


def _read(path: str) -> "dict[str, Value]":
    """The settings by name; none where there is no such file or nothing in it."""
    try:
        text = read_config(path, path, _LARGEST, remedy="remove it")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n")):
        return {}
    from riseml_proto.yamltext import compose  # takes 20 ms, only needed with such a file

    return compose(text, path).fields((_HOST, _REMOTE_COMMAND))


def open_file(path: str, flags: int) -> int:
    """`os.open` for what has to be a file, or /dev/null. Raises `OSError`, with words for a FIFO or a device."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a FIFO that nobody reads, or a socket
            _require_file(os.stat(path), path)
        raise
    try:
        _require_file(os.fstat(fd), path)
    except OSError:
        os.close(fd)
        raise
    os.set_blocking(fd, True)
    return fd


def _require_file(status: os.stat_result, path: str) -> None:
    if wrong := wrong_kind(status.st_mode, status.st_rdev):
        raise OSError(errno.EINVAL, wrong, path)


def read_config(path: str, name: str, largest: int, *, remedy: str) -> str:
    """The text of the file at `path`, which errors call `name`. Raises `ConfigError` or `FileNotFoundError`."""
    try:
        fd = os.open(path, os.O_RDONLY) if is_descriptor(path) else open_file(path, os.O_RDONLY)
        with open(fd, "rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            raise ConfigError(f"is too large for a configuration; {remedy}", file=name)
        return data.decode()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror}); {remedy}", file=name) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text; save it as that", file=name, line=line) from None
