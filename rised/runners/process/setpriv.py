"""The command line that runs a job's shell with its owner's rights.

    sh        joins the control group, as root
    setpriv   takes the owner's uid, gid and groups
    prlimit   the owner's limits
    sh        reads the environment from a file, sets the umask, and becomes the job's shell

The steps that run as root see nothing that a user wrote: with a variable such as LD_PRELOAD a user could make root run
anything. So the environment comes last. It comes from a file, because everybody can read a process's arguments.
"""

import os
import resource
import shlex
from collections.abc import Mapping, Sequence

from rised.linux.files import opened, write_all
from rised.runners.shell import exports
from rised.users.files import give
from rised.users.owner import Owner, attainable_limits
from riseml_proto.errors import DaemonError

_SHELL, _SETPRIV, _PRLIMIT = "/bin/sh", "/usr/bin/setpriv", "/usr/bin/prlimit"
_JOIN = 'if [ -n "$1" ]; then echo 0 >"$1/cgroup.procs" || exit 0; fi; shift; exec "$@"'


def check() -> None:
    """Raise `DaemonError` where the programs are missing."""
    for program in (_SETPRIV, _PRLIMIT):
        if not os.access(program, os.X_OK):
            raise DaemonError(f"rised --system needs {program}; install util-linux")


def command(
    owner: Owner, cgroup: str | None, env_file: str, script: str, words: Sequence[str]
) -> list[str]:
    """The arguments that run the shell's `script` with `words` as its arguments. Run them in a clean environment."""
    groups = ",".join(map(str, owner.groups))
    return [
        *(_SHELL, "-c", _JOIN, "riseml", cgroup or ""),
        *(_SETPRIV, f"--reuid={owner.uid}", f"--regid={owner.gid}"),
        f"--groups={groups}" if groups else "--clear-groups",
        *_limits(owner),
        *(_SHELL, "-c", f". {shlex.quote(env_file)}; umask {owner.umask:03o}\n{script}", *words),
    ]


def _limits(owner: Owner) -> list[str]:
    """The arguments that set limits where they differ from the daemon's, none above the daemon's hard limit."""
    options = [
        f"--{name}={_text(soft)}:{_text(hard)}" for name, soft, hard in attainable_limits(owner)
    ]
    return [_PRLIMIT, *options] if options else []


def _text(amount: int) -> str:
    return "unlimited" if amount == resource.RLIM_INFINITY else str(amount)


def write_environment(path: str, env: Mapping[str, str], owner: Owner) -> None:
    """Write the file from which the shell reads its environment. Raises `OSError`."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600) as fd:
        write_all(fd, exports(env))
        give(fd, owner)
