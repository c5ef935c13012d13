"""The package `riseml` as jobs find it, whatever Python they have."""

import contextlib
import importlib.util
import os

from rised.log import log


def link_client(directory: str) -> None:
    """Let `riseml` be in `directory`, where jobs have their Python look for it; where it cannot, jobs go without.

    With it goes `riseml_proto`, or a job with another riseml installed would have one of each. Jobs that run look there
    meanwhile.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask: every user's Python reads it
        for name in ("riseml", "riseml_proto"):
            _link(os.path.join(directory, name), _package(name))
    except OSError as error:
        log.error("jobs will not find riseml", directory=directory, error=str(error))


def _link(link: str, target: str) -> None:
    with contextlib.suppress(OSError):
        if os.readlink(link) == target:
            return
    new = f"{link}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(target, new)
    os.replace(new, link)


def client_package() -> str:
    """Path of the installed package `riseml`."""
    return _package("riseml")


def _package(name: str) -> str:
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return os.path.dirname(os.path.abspath(found.origin))
