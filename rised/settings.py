"""How a daemon is set up: defaults, then its configuration file, then its command line.

The fields of `Settings` are the one table of all settings: a field makes the key of the file and the flag, its type and
`check` what is accepted, its `Setting` the line of `rised --help` and the row in docs/daemon.md.
"""

import grp
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import yaml

from rised.gpus import devices
from rised.linux.files import open_file
from rised.policy.quotas import Quotas
from rised.policy.quotas import read as read_quotas
from riseml_proto.default_socket import SYSTEM_SOCKET, user_socket
from riseml_proto.errors import InvalidInput
from riseml_proto.file_kinds import is_descriptor
from riseml_proto.value import unknown_key

_LARGEST = 1 << 20  # characters of a configuration file
_SYSTEM_FILE = "/etc/rised/config.yml"
_SYSTEM_PATHS = {
    "socket": SYSTEM_SOCKET,
    "state_dir": "/var/lib/rised",
    "output_dir": "/srv/riseml/output",
    "data_dir": "/srv/riseml/data",
}


def group_id(name: str) -> int:
    """The number of a group. Raises `InvalidInput` where there is none of this name."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):  # or a name with a NUL byte
        raise InvalidInput(f"there is no group {name!r} here; make it: groupadd {name}") from None


class Setting(NamedTuple):
    """What people read about a setting, and how its value is checked."""

    help: str
    default: str = ""
    """As people read it; by default the field's own."""
    metavar: str | None = None
    """The value in `rised --help`, where the type does not say it. None: a switch, or a key of the file alone."""
    check: Callable[[Any], object] | None = None
    """Raises `InvalidInput` for a value of the right type that is wrong all the same."""
    type: Any = None
    """That of the field."""


def _check_gpus(value: str | int) -> None:
    if value != "auto":
        devices.declared(value)


class Settings(msgspec.Struct, kw_only=True):
    """The settings of one daemon. Paths are absolute once `load` has returned."""

    # fmt: off
    system: Annotated[bool, Setting(
        "serve every user of this machine, as root; see docs/server.md", "no")] = False
    group: Annotated[str | None, Setting(
        "with `--system`: whose members may use it", "everybody", "GROUP", group_id)] = None
    admin_group: Annotated[str | None, Setting(
        "with `--system`: whose members may do what root may", "root alone", "GROUP", group_id)] = None
    socket: Annotated[str, Setting(
        "listen here",
        "`$XDG_RUNTIME_DIR/rised/rised.sock`; without that variable in `/run/user/UID`, else `/tmp/rised-UID`",
        "PATH")] = ""
    state_dir: Annotated[str, Setting("database, logs, revisions", "`~/.local/state/rised`", "DIR")] = ""
    output_dir: Annotated[str, Setting("what experiments write", "`~/riseml-output`", "DIR")] = ""
    data_dir: Annotated[str, Setting(
        "what experiments read; jobs find it as `DATA_DIR`", "`~/riseml-data`", "DIR")] = ""
    gpus: Annotated[str | int, Setting(
        "`auto`: ask the NVIDIA driver; `4`: there are four; `0,2,3`: there are these",
        metavar="auto|N|0,2,3", check=_check_gpus)] = "auto"
    gpu_foreign_mem: Annotated[int, Setting(
        "a GPU is handed out only while processes that rised did not start use at most so many MiB of it",
        metavar="MIB")] = 512
    cpus: Annotated[float | None, Setting("CPUs to hand out", "all there are", "N")] = None
    mem: Annotated[int | None, Setting("memory to hand out, in MiB", "all there is", "MIB")] = None
    runner: Annotated[Literal["auto", "process", "docker"], Setting(
        "`auto`: an experiment with an `image` in containers, one without as processes; `process`: never in "
        "containers, its image is ignored, and the job's log says so; `docker`: only in containers")] = "auto"
    stop_jobs: Annotated[bool, Setting("end the jobs when the daemon is stopped", "no: they run on")] = False
    kill_grace: Annotated[float, Setting("seconds from SIGTERM to SIGKILL", metavar="SECONDS")] = 10.0
    max_files: Annotated[int, Setting("most files in a project", metavar="N")] = 100_000
    max_bytes: Annotated[int, Setting("most bytes in a project", metavar="N")] = 2 << 30
    min_free: Annotated[int, Setting(
        "MiB free on the disk of state or output below which nothing new is taken", metavar="MIB")] = 64
    half_life: Annotated[float, Setting(
        "hours after which half of a user's past GPU time is forgotten; 0: past GPU time does not count",
        metavar="HOURS")] = 24.0
    quotas: Annotated[dict[str, Any], Setting(
        "who may take how much, see [quotas](#quotas); in the file alone", "no bounds")] = {}
    # fmt: on


def _table() -> dict[str, Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    table = {}
    for field in msgspec.structs.fields(Settings):
        type_, setting = get_args(hints[field.name])
        value = field.default
        table[field.name.replace("_", "-")] = setting._replace(
            type=type_,
            default=setting.default or (f"{value:g}" if isinstance(value, float) else str(value)),
            metavar="|".join(_choices(type_)) or setting.metavar,
        )
    return table


def _choices(type_: Any) -> tuple[str, ...]:
    return get_args(type_) if get_origin(type_) is Literal else ()


TABLE: Mapping[str, Setting] = _table()
"""Key of the file, and flag → setting, complete, in the order in which people read them."""
_EXPECTED = {
    bool: "true or false",
    str: "a text",
    str | None: "the name of a group",
    str | int: "auto, a number or indices such as 0,2,3",
    int: "a whole number, 0 or more",
    int | None: "a whole number, 0 or more",
    float: "a number, 0 or more",
    float | None: "a number, 0 or more",
}


def load(
    file: str | None,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    for_stop: list[str] | None = None,
) -> Settings:
    """Put the settings together. `flags` are those given, by key. Raises `InvalidInput` with file and key.

    `for_stop`: only to find a daemon that is to be stopped, from which nothing else in the file may keep anybody. The
    list gets what is wrong with a file that therefore could not say where the daemon is.
    """
    usual = _SYSTEM_FILE if flags.get("system") else _own_file(environ)
    path = file or (usual if os.path.exists(usual) else None)
    try:
        content = _read(path)
    except InvalidInput as error:
        if for_stop is None or (file and "state-dir" not in flags):
            raise
        content = {}
        if "state-dir" not in flags:
            for_stop.append(str(error))
    if for_stop is not None:
        content = {
            key: content[key] for key in ("system", "state-dir") if key in {*content} - {*flags}
        }
    values = {
        **{key: _value(key, value, f"{path}: {key}") for key, value in content.items()},
        **{key: _value(key, value, f"--{key}", is_flag=True) for key, value in flags.items()},
    }
    settings = Settings(**{key.replace("-", "_"): value for key, value in values.items()})
    _complete_paths(settings, environ)
    return settings


def quotas(settings: Settings) -> Quotas:
    """Who may take how much."""
    return read_quotas(settings.quotas, "quotas", group_id)


def _own_file(environ: Mapping[str, str]) -> str:
    """The file of a person's own daemon, which never takes that of a server: both would hand out the same GPUs."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "rised", "config.yml")


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC
        fd = os.open(path, flags) if is_descriptor(path) else open_file(path, flags)
        with open(fd, encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise InvalidInput(f"{path}: is too large for a configuration")
        content = yaml.safe_load(text) or {}
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # what looks like a date or a number may be none
        why = " ".join(str(error).replace(' in "<unicode string>",', "").split())
        raise InvalidInput(f"{path}: not YAML: {why}") from None
    except RecursionError:
        raise InvalidInput(f"{path}: is nested too deeply") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{path}: must be keys and values, such as gpus: 4")
    return content


def _value(key: object, given: object, where: str, *, is_flag: bool = False) -> Any:
    """The value of a setting as its type. A flag's is text, whatever its type; a file's is not."""
    if key not in TABLE:
        raise InvalidInput(f"{where}: {unknown_key(str(key), TABLE)}")
    setting = TABLE[str(key)]
    if key == "quotas":
        read_quotas(given, where, group_id)
        return given
    try:
        value = msgspec.convert(given, setting.type, strict=not is_flag)
        fits = not isinstance(value, int | float) or 0 <= value < float("inf")
    except (msgspec.ValidationError, UnicodeEncodeError):  # or a flag's bytes are no text
        fits = False
    if not fits or (value is None and given is not None):
        shown = "empty" if given is None else repr(given)
        *others, last = _choices(setting.type) or [_EXPECTED[setting.type]]
        expected = f"{', '.join(others)} or {last}" if others else last
        raise InvalidInput(f"{where}: must be {expected}, not {shown}")
    is_path = str(key).replace("-", "_") in _SYSTEM_PATHS
    if is_path and not (is_flag or os.path.isabs(os.path.expanduser(value))):
        raise InvalidInput(f"{where}: must begin with / or ~/, not {value!r}")
    if setting.check and value is not None:
        try:
            setting.check(value)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None
    return value


def _complete_paths(settings: Settings, environ: Mapping[str, str]) -> None:
    uid, home = os.getuid(), os.path.expanduser("~")
    run_user = os.path.isdir(f"/run/user/{uid}") and os.stat(f"/run/user/{uid}").st_uid == uid
    state = environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    defaults = {
        "socket": user_socket(environ, uid, run_user=run_user),
        "state_dir": os.path.join(state, "rised"),
        "output_dir": os.path.join(home, "riseml-output"),
        "data_dir": os.path.join(home, "riseml-data"),
    }
    for name, default in (_SYSTEM_PATHS if settings.system else defaults).items():
        path = os.path.expanduser(getattr(settings, name) or default)
        setattr(settings, name, os.path.abspath(path))
