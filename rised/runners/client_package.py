"""The package `riseml`, put where every job's Python finds it."""

import contextlib
import importlib.util
import os

from rised.log import log


def link_client(directory: str) -> None:
    """Put links to the installed `riseml` and `riseml_proto` in `directory`, which is in jobs' PYTHONPATH.

    Both, or a job with another riseml installed would import one of each. Running jobs use the links meanwhile, so each
    is replaced at once. Where this fails, it is logged, and jobs do without.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask: every user's Python reads it
        for name in ("riseml", "riseml_proto"):
            _link(os.path.join(directory, name), client_package(name))
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


def client_package(name: str = "riseml") -> str:
    """Path of an installed package."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return os.path.dirname(os.path.abspath(spec.origin))
