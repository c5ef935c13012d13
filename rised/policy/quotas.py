"""Who may take how much: `quotas` of the configuration file. Pure.

    quotas:
      default: {gpus: 4, queued: 100}       # each user
      users:
        paul: {gpus: 8}                     # what it leaves out is as in default
      groups:
        students: {gpus: 16, disk: 2TiB}    # all members together

An account is what a quota is for: `user:paul`, `group:students`. An experiment counts for its user's account, and for
those of the groups that its user was in at submission.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import NamedTuple, NoReturn

from riseml_proto import quantities
from riseml_proto.errors import InvalidInput


class Quota(NamedTuple):
    """The most that one account may have; None: all there is."""

    gpus: int | None = None
    """GPUs at once."""
    queued: int | None = None
    """Experiments that have not ended."""
    disk: int | None = None
    """MiB of outputs, from which on nothing new is taken."""


class Quotas(NamedTuple):
    """Everybody's."""

    default: Quota = Quota()
    users: Mapping[str, Quota] = {}
    groups: Mapping[str, tuple[int, Quota]] = {}
    """Name → gid and quota."""

    def of(self, user: str, groups: set[int]) -> dict[str, Quota]:
        """The accounts that have a quota and that an experiment of `user` counts for, who is in `groups` (gids)."""
        own = self.users.get(user, self.default)
        found = {f"user:{user}": own} if any(most is not None for most in own) else {}
        for name, (gid, quota) in self.groups.items():
            if gid in groups:
                found[f"group:{name}"] = quota
        return found


_READERS: dict[str, Callable[[str], int]] = {
    "gpus": quantities.whole,
    "queued": quantities.whole,
    "disk": quantities.memory,
}


def read(written: object, place: str, group_id: Callable[[str], int]) -> Quotas:
    """Understand what the file says at `place`; `group_id` knows the gids of groups.

    Raises `InvalidInput` with the place, and whatever `group_id` raises.
    """
    parts = _mapping(written, f"{place}: ", "such as default: {gpus: 4}")
    for name in parts:
        if name not in ("default", "users", "groups"):
            _refuse_key(name, ("default", "users", "groups"), f"{place}: ")
    default = _quota(parts.get("default", {}), f"{place}: default", Quota())
    users, groups = (
        _mapping(parts.get(what, {}), f"{place}: {what}: ", "such as a name and {gpus: 4}")
        for what in ("users", "groups")
    )
    found: dict[str, tuple[int, Quota]] = {}
    for name, quota in groups.items():
        try:
            gid = group_id(name)
        except InvalidInput as error:
            raise InvalidInput(f"{place}: groups: {error}") from None
        found[name] = gid, _quota(quota, f"{place}: groups.{_shown(name)}", Quota())
    own = {
        name: _quota(quota, f"{place}: users.{_shown(name)}", default)
        for name, quota in users.items()
    }
    return Quotas(default, own, found)


def _quota(written: object, place: str, default: Quota) -> Quota:
    amounts = {}
    for key, value in _mapping(written, f"{place}: ", "such as {gpus: 4}").items():
        if key not in _READERS:
            _refuse_key(key, tuple(_READERS), f"{place}: ")
        try:
            amounts[key] = _READERS[key](str(value))
        except ValueError as error:
            raise InvalidInput(f"{place}.{key}: {error}, not {value!r}") from None
    return default._replace(**amounts)


def _mapping(written: object, place: str, example: str) -> dict[str, object]:
    if not isinstance(written, dict) or not all(isinstance(key, str) for key in written):
        raise InvalidInput(f"{place}must be keys and values, {example}")
    return written


def _refuse_key(key: str, there: tuple[str, ...], place: str) -> NoReturn:
    near = get_close_matches(key, there, 1) or there
    raise InvalidInput(f"{place}there is no such key as {_shown(key)}; there is {', '.join(near)}")


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
