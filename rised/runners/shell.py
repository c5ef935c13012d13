"""The shell that runs a job's commands, and the exit file that it leaves: the same for processes and containers."""

import os

from rised.runners.base import Exit

SHELL = "/bin/sh"
WORKING_DIRECTORY = "/code"
"""Working directory of a job in a container."""

# $1 exit file, $2 control group or empty, $3 working directory, $4 limit on open files or empty, then the commands.
# TERM, INT and HUP reach the whole session; the shell outlives its command to write down how that ended.
# While it waits they are not for it: its arguments look like the job's to a `pkill -f`.
# It joins its group while it still waits: that can take the kernel many milliseconds.
# `1<>` opens without truncating. The subshell keeps a command's `exit`, `cd` and variables to itself. The script's
# variables have names that no job's have: a shell passes on one that it was given with the value that it has now.
SCRIPT = """\
[ -z "$2" ] || echo 0 >"$2/cgroup.procs" || exit 0
cd "$3" || exit 0
[ -z "$4" ] || ulimit -S -n "$4"
trap '' TERM INT HUP
read -r _riseml_leave CUDA_VISIBLE_DEVICES || exit 0
trap : TERM INT HUP
exec </dev/null
_riseml_exit=$1
printf 'run\\n' 1<>"$_riseml_exit"
shift 4
_riseml_code=0
for _riseml_command; do
  (set --; eval "$_riseml_command")
  _riseml_code=$?
  [ "$_riseml_code" = 0 ] || break
done
printf '%-3d\\n' "$_riseml_code" 1<>"$_riseml_exit"
"""


def read_exit(path: str, key: bytes, status: int | None, *, other_boot: bool) -> Exit:
    """What the exit file of the job `key` tells, and where that is nothing, the `status` that somebody else saw."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text, _, rest = os.read(fd, 512).partition(b"\n")
        finally:
            os.close(fd)
    except OSError:  # the job has removed it, or made something else of it
        return Exit(begun=True, code=None)
    if rest.partition(b"\n")[0] != key:
        return Exit(begun=True, code=None)
    if text == b"new":
        # What the shell wrote after that may not have reached the disk before the power went.
        return Exit(begun=other_boot, code=status)
    if text == b"run":
        # The shell itself was killed, for example for want of memory. Only its parent knows by what.
        return Exit(begun=True, code=status if status else None)
    text = text.strip()
    known = text.isdigit() and int(text) <= 255  # a job can write here, too
    return Exit(begun=True, code=int(text) if known else None)
