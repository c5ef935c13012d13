"""Which directories are no project, because they hold what must never travel."""

import os
from collections.abc import Mapping

from riseml.settings import user_directory
from riseml.sync.files import show
from riseml_proto.errors import InvalidInput

_INSTEAD = "make a directory with the experiment's files and riseml.yml, and run riseml train there"
_OWN = (
    ("XDG_STATE_HOME", "~/.local/state", "rised"),
    ("XDG_CACHE_HOME", "~/.cache", "riseml"),
    ("XDG_CONFIG_HOME", "~/.config", "riseml"),
    ("XDG_CONFIG_HOME", "~/.config", "rised"),
)
_OUTPUTS = ("~/riseml-output", "/srv/riseml/output", "/var/lib/rised")


def check_project(root: bytes, environ: Mapping[str, str]) -> None:
    """Raise `InvalidInput` where the directory `root` is no place for a project: a home, one above it, or our own."""
    place = os.path.realpath(root)
    home = os.path.realpath(os.fsencode(os.path.expanduser("~")))
    if place == b"/":
        raise InvalidInput(f"/ is the whole machine, not a project; {_INSTEAD}")
    if place == home or home.startswith(place + b"/"):
        what = "your home directory" if place == home else "a directory above your home directory"
        raise InvalidInput(f"{show(place)} is {what}, not a project; {_INSTEAD}")
    for own in own_directories(environ):
        if place == own or place.startswith(own + b"/"):
            raise InvalidInput(
                f"{show(place)} is riseml's own directory, not a project; {_INSTEAD}"
            )
        if own.startswith(place + b"/") and os.path.isdir(own):
            raise InvalidInput(
                f"{show(place)} holds riseml's own directory {show(own)}, so it is no project; "
                f"{_INSTEAD}"
            )


def own_directories(environ: Mapping[str, str]) -> list[bytes]:
    """Where client and daemon keep what is theirs, unless they were told another place."""
    paths = [os.path.join(user_directory(environ, *base), name) for *base, name in _OWN]
    paths += [os.path.expanduser(path) for path in _OUTPUTS]
    return [os.path.realpath(os.fsencode(path)) for path in paths]
