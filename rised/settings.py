"""How a daemon is set up: defaults, then its configuration file, then its command line."""

import grp
import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

import msgspec
import yaml

from rised.gpus import devices
from rised.policy.quotas import Quotas
from rised.policy.quotas import read as read_quotas
from riseml_proto.default_socket import SYSTEM_SOCKET, user_socket
from riseml_proto.errors import InvalidInput

_SYSTEM_FILE = "/etc/rised/config.yml"
MAX_FILES = 100_000
MAX_BYTES = 2 << 30


SYSTEM_PLACES = {
    "socket": SYSTEM_SOCKET,
    "state_dir": "/var/lib/rised",
    "output_dir": "/srv/riseml/output",
    "data_dir": "/srv/riseml/data",
}


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="kebab"):
    """The keys of `config.yml`; each is a flag of `rised`, too. Paths are absolute once `load` has returned."""

    system: bool = False
    """Serve every user of the machine, as root; jobs run as whoever submitted them."""
    group: str | None = None
    """Of a `system` daemon: only members of this group may use it."""
    admin_group: str | None = None
    """Of a `system` daemon: members may do what root may: see, kill and change everybody's."""
    socket: str = ""
    state_dir: str = ""
    output_dir: str = ""
    data_dir: str = ""
    gpus: str | int = "auto"
    """`auto`: ask the driver. A number: declare so many. `0,2,3`: declare these indices."""
    gpu_foreign_mem: int = 512
    """MiB that processes which are not ours may use on a GPU that is handed out all the same."""
    cpus: float | None = None
    """How many CPUs are handed out; the machine's by default."""
    mem: int | None = None
    """MiB of memory that are handed out; the machine's by default."""
    runner: Literal["auto", "process", "docker"] = "auto"
    """`auto`: an experiment with an image in containers, one without as processes."""
    stop_jobs: bool = False
    """Whether stopping the daemon ends the jobs."""
    kill_grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    max_files: int = MAX_FILES
    max_bytes: int = MAX_BYTES
    """The most that a project may have."""
    min_free: int = 64
    """MiB of disk below which no new experiment is taken."""
    half_life: float = 24.0
    """Hours after which half of the GPU time that a user has used is forgotten; 0: all that has ended is."""
    quotas: dict[str, Any] = {}
    """As `rised.policy.quotas` reads them; of the configuration file alone."""


_FIELDS = {field.encode_name: field.type for field in msgspec.structs.fields(Settings)}
_WORDS = {
    bool: "true or false",
    str: "a text",
    str | None: "the name of a group",
    str | int: "auto, a number or indices such as 0,2,3",
    int: "a whole number, 0 or more",
    int | None: "a whole number, 0 or more",
    float: "a number, 0 or more",
    float | None: "a number, 0 or more",
    Literal["auto", "process", "docker"]: "auto, process or docker",
}


def load(file: str | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """Put the settings together. `flags` are those given, by key. Raises `InvalidInput` with file and key."""
    files = [_SYSTEM_FILE] if flags.get("system") else _default_files(environ)
    path = file or next((p for p in files if os.path.exists(p)), None)
    written = _read(path) if path else {}
    for key, value in written.items():
        _check(key, value, f"{path}: {key}")
    for key, value in flags.items():
        _check(key, value, f"--{key}")
    settings = msgspec.convert({**written, **flags}, Settings)
    _fill_in(settings, environ)
    return settings


def quotas(settings: Settings) -> Quotas:
    """Who may take how much."""
    return read_quotas(settings.quotas, "quotas", group_id)


def group_id(name: str) -> int:
    """The number of a group. Raises `InvalidInput` where there is none of this name."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):  # or a name with a NUL byte
        raise InvalidInput(f"there is no group {name!r} here; make it: groupadd {name}") from None


def _default_files(environ: Mapping[str, str]) -> list[str]:
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [os.path.join(home, "rised", "config.yml"), _SYSTEM_FILE]


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file) or {}
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{path}: must be keys and values, such as gpus: 4")
    return found


def _check(key: object, value: object, place: str) -> None:
    if key not in _FIELDS:
        near = get_close_matches(str(key), _FIELDS, 1) or sorted(_FIELDS)
        raise InvalidInput(f"{place}: there is no such key; there is {', '.join(near)}")
    kind = _FIELDS[str(key)]
    if key == "quotas":
        read_quotas(value, place, group_id)
        return
    try:
        found = msgspec.convert(value, kind)
        fits = not isinstance(found, int | float) or 0 <= found < float("inf")
    except msgspec.ValidationError:
        fits = False
    if not fits:
        shown = "empty" if value is None else repr(value)
        raise InvalidInput(f"{place}: must be {_WORDS[kind]}, not {shown}")
    try:
        if key == "gpus" and value != "auto":
            devices.declared(found)
        elif key in ("group", "admin-group") and found is not None:
            group_id(found)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from None


def _fill_in(settings: Settings, environ: Mapping[str, str]) -> None:
    uid, home = os.getuid(), os.path.expanduser("~")
    run_user = os.path.isdir(f"/run/user/{uid}") and os.stat(f"/run/user/{uid}").st_uid == uid
    state = environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    defaults = {
        "socket": user_socket(environ, uid, run_user=run_user),
        "state_dir": os.path.join(state, "rised"),
        "output_dir": os.path.join(home, "riseml-output"),
        "data_dir": os.path.join(home, "riseml-data"),
    }
    if settings.system:
        defaults = SYSTEM_PLACES
    for name, default in defaults.items():
        setattr(
            settings, name, os.path.abspath(os.path.expanduser(getattr(settings, name) or default))
        )
