"""The package `riseml`, put where every job's Python finds it, whatever becomes of the environment that it came from.

    python/.3f2a…/            a copy of both packages, named by its content
    python/riseml             a link to that in the newest copy
    python/riseml_proto       likewise

A copy is made under another name and renamed, and a link is replaced at once: running jobs use both meanwhile. A copy
that a power cut has damaged does not fit its name, and is made anew.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterator

from rised.crashpoints import crash_point
from rised.linux.files import opened, write_file
from rised.log import log

_PACKAGES = ("riseml", "riseml_proto")
_NEW = ".new"


def install_client(directory: str, *, keep_others: bool = False) -> None:
    """Put `riseml` and `riseml_proto` into `directory`, which is in jobs' PYTHONPATH.

    Both, or a job with another riseml installed would import one of each. `keep_others`: containers of running jobs may
    have an older copy mounted. Where this fails, it is logged, and jobs do without.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask: every user's Python reads it
        copy = _copy(directory)
        for name in _PACKAGES:
            _link(os.path.join(directory, name), os.path.join(copy, name))
        for other in os.listdir(directory):
            if other.startswith(".") and other != copy and not keep_others:
                shutil.rmtree(os.path.join(directory, other), ignore_errors=True)
    except OSError as error:
        log.error("jobs will not find riseml", directory=directory, error=str(error))


def _copy(directory: str) -> str:
    """Make a copy of the installed packages unless it is there; return its name in `directory`."""
    files = {
        os.path.join(name, path): data
        for name in _PACKAGES
        for path, data in _modules(client_package(name))
    }
    name = f".{_digest(files)}"
    place = os.path.join(directory, name)
    if os.path.isdir(place):
        if _digest(dict(_modules(place))) == name[1:]:
            return name
        shutil.rmtree(place)
    new = place + _NEW
    shutil.rmtree(new, ignore_errors=True)
    for path, data in files.items():
        to = os.path.join(new, path)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        write_file(to, data)
        os.chmod(to, 0o644)
    for above, _, _ in os.walk(new):
        os.chmod(above, 0o755)  # noqa: S103 - as above
    crash_point("client-copied")
    os.rename(new, place)
    crash_point("client-placed")
    return name


def _modules(top: str) -> Iterator[tuple[str, bytes]]:
    """Path below `top` and content of each module, in order."""
    for above, directories, names in os.walk(top):
        directories.sort()
        for name in sorted(names):
            if name.endswith((".py", ".typed")):
                path = os.path.join(above, name)
                with opened(path, os.O_RDONLY) as fd:
                    yield os.path.relpath(path, top), os.read(fd, os.fstat(fd).st_size)


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, data in sorted(files.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def _link(link: str, target: str) -> None:
    with contextlib.suppress(OSError):
        if os.readlink(link) == target:
            return
    new = link + _NEW
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(target, new)
    os.replace(new, link)


def client_package(name: str = "riseml") -> str:
    """Path of an installed package."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return os.path.dirname(os.path.abspath(spec.origin))
