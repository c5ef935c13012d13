"""The user's settings: `host: ssh://gpu-box` in ~/.config/riseml/config.yml.

They are read only where neither --host nor RISEML_HOST is given, and the YAML reader is imported only for them.
"""

import os
from collections.abc import Mapping

from riseml.transport import address
from riseml.transport.address import SshAddress
from riseml_proto.errors import ConfigError, InvalidInput

_LARGEST = 1 << 16  # bytes, so that /dev/zero is not read for ever


def user_directory(environ: Mapping[str, str], variable: str, default: str) -> str:
    """The directory in a `variable` such as XDG_CACHE_HOME, else `default`. The standard forbids relative ones."""
    path = environ.get(variable, "")
    return path if path.startswith("/") else os.path.expanduser(default)


def config_file(environ: Mapping[str, str]) -> str:
    """Path of the settings, in $XDG_CONFIG_HOME, by default ~/.config."""
    base = user_directory(environ, "XDG_CONFIG_HOME", "~/.config")
    return os.path.join(base, "riseml", "config.yml")


def configured_host(environ: Mapping[str, str]) -> str | SshAddress | None:
    """The value of `host:`, as `address.parse` returns it; None where it is not set. Raises `ConfigError`."""
    path = config_file(environ)
    try:
        text = read_config(path, path, _LARGEST, remedy="remove it")
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n")):
        return None
    from riseml_proto.yamltext import compose  # takes 20 ms, only needed with such a file

    value = compose(text, path).fields(("host",))["host"]
    host = value.text()
    try:
        return address.parse(host)
    except InvalidInput as error:
        raise value.error(str(error)) from None


def read_config(path: str, name: str, largest: int, *, remedy: str) -> str:
    """The text of the file at `path`, which errors call `name`. Raises `ConfigError` or `FileNotFoundError`."""
    try:
        with open(path, "rb") as file:
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
