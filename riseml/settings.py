"""The user's settings, in ~/.config/riseml/config.yml:

    host: ssh://gpu-box

The file is read only where neither --host nor RISEML_HOST is given. The YAML reader is imported only
where there is such a file.
"""

import os
from collections.abc import Mapping

from riseml.transport import address
from riseml.transport.address import SshAddress
from riseml_proto.errors import ConfigError, InvalidInput

_LARGEST = 1 << 16  # bytes, so that /dev/zero is not read for ever


def config_file(environ: Mapping[str, str]) -> str:
    """Path of the settings, in $XDG_CONFIG_HOME, by default ~/.config."""
    given = environ.get("XDG_CONFIG_HOME", "")
    base = given if given.startswith("/") else os.path.expanduser("~/.config")
    return os.path.join(base, "riseml", "config.yml")


def configured_host(environ: Mapping[str, str]) -> str | SshAddress | None:
    """The value of `host:`, as `address.parse` returns it; None where it is not set.

    Raises `ConfigError`.
    """
    path = config_file(environ)
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(
            f"cannot be read ({error.strerror}); let it be yours, or remove it", file=path
        ) from None
    if len(data) > _LARGEST:
        raise ConfigError("is too large for a configuration; remove it", file=path)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text; save it as that", file=path, line=line) from None
    return _host(text, path)


def _host(text: str, path: str) -> str | SshAddress | None:
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n")):
        return None
    from riseml_proto.yamltext import compose  # takes 20 ms, only needed with such a file

    value = compose(text, path).fields(("host",))["host"]
    host = value.text()
    try:
        return address.parse(host)
    except InvalidInput as error:
        raise value.error(str(error)) from None
