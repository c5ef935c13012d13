"""Who may take how much: `quotas` of the configuration file. Pure.

    quotas:
      default: {gpus: 4, queued: 100}       # each user
      users:
        paul: {gpus: 8}                     # what it leaves out is as in default
      groups:
        students: {gpus: 16, disk: 2TiB}    # all members together

An account is what a quota is for: `user:paul`, `group:students`. An experiment counts against the quota of its user
and against those of the groups that its user was in at submission.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from riseml_proto import quantities
from riseml_proto.errors import InvalidInput
from riseml_proto.value import unknown_key


class Quota(NamedTuple):
    """The most that one account may have at a time; None: no limit."""

    gpus: int | None = None
    """GPUs that its running jobs hold."""
    queued: int | None = None
    """Unfinished experiments."""
    disk: int | None = None
    """MiB of outputs. Who has reached it may submit nothing more."""


class Quotas(NamedTuple):
    """The quotas of all accounts."""

    default: Quota = Quota()
    users: Mapping[str, Quota] = {}
    groups: Mapping[str, tuple[int, Quota]] = {}
    """Group's name → gid and quota."""

    def of(self, user: str, groups: set[int]) -> dict[str, Quota]:
        """Account → quota, for each quota that an experiment of `user`, a member of `groups` (gids), counts against."""
        own = self.users.get(user, self.default)
        quotas = {f"user:{user}": own} if any(limit is not None for limit in own) else {}
        for name, (gid, quota) in self.groups.items():
            if gid in groups:
                quotas[f"group:{name}"] = quota
        return quotas


_READERS: dict[str, Callable[[str], int]] = {
    "gpus": quantities.whole,
    "queued": quantities.whole,
    "disk": quantities.memory,
}


def read(section: object, path: str, group_id: Callable[[str], int]) -> Quotas:
    """Read the section that stands at `path` of the file; `group_id` returns a group's gid.

    Raises `InvalidInput` that names the path, and whatever `group_id` raises.
    """
    parts = _mapping(section, f"{path}: ", "such as default: {gpus: 4}")
    for key in parts:
        if key not in ("default", "users", "groups"):
            _refuse_key(key, ("default", "users", "groups"), f"{path}: ")
    default = _quota(parts.get("default", {}), f"{path}: default", Quota())
    users, groups = (
        _mapping(parts.get(key, {}), f"{path}: {key}: ", "such as a name and {gpus: 4}")
        for key in ("users", "groups")
    )
    by_group: dict[str, tuple[int, Quota]] = {}
    for name, quota in groups.items():
        try:
            gid = group_id(name)
        except InvalidInput as error:
            raise InvalidInput(f"{path}: groups: {error}") from None
        by_group[name] = gid, _quota(quota, f"{path}: groups.{_shown(name)}", Quota())
    by_user = {
        name: _quota(quota, f"{path}: users.{_shown(name)}", default)
        for name, quota in users.items()
    }
    return Quotas(default, by_user, by_group)


def _quota(section: object, path: str, default: Quota) -> Quota:
    limits = {}
    for key, value in _mapping(section, f"{path}: ", "such as {gpus: 4}").items():
        if key not in _READERS:
            _refuse_key(key, tuple(_READERS), f"{path}: ")
        try:
            limits[key] = _READERS[key](str(value))
        except ValueError as error:
            raise InvalidInput(f"{path}.{key}: {error}, not {value!r}") from None
    return default._replace(**limits)


def _mapping(section: object, prefix: str, example: str) -> dict[str, object]:
    if not isinstance(section, dict) or not all(isinstance(key, str) for key in section):
        raise InvalidInput(f"{prefix}must be keys and values, {example}")
    return section


def _refuse_key(key: str, known: tuple[str, ...], prefix: str) -> NoReturn:
    raise InvalidInput(f"{prefix}{_shown(key)}: {unknown_key(key, known)}")


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
