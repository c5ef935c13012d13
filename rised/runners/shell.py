"""The shell that runs a job's commands, in processes and in containers, and the exit file that it leaves.

The exit file is made before the shell starts. The shell overwrites its first four bytes, for which even a full disk has
room:

    new     no start signal has come
    run     the commands have begun; how they ended is not known
    0-255   they ended with this code

After a power cut the file may hold the end of a job that used it before. So its second line names the job.
"""

import errno
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence

import trio

from rised.linux.files import READ_UNTRUSTED, opened, overwrite, write_all
from rised.log import log
from rised.runners.base import Exit
from rised.runners.commands import script
from rised.users.files import give
from rised.users.owner import Owner

SHELL = "/bin/sh"
_AGAIN_SECONDS = 0.5
_FOR_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
WORKING_DIRECTORY = "/code"
"""Working directory of a job in a container."""
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")

# $1 exit file, $2 control group or empty, $3 working directory, $4 limit on open files or empty, then the commands.
# The shell joins its control group while it is held: that can take the kernel many milliseconds.
# A signal that ends a job can reach the shell, too, which outlives its command, to write down how that ended, and then
# begins no other. It ignores them while it is held: a `pkill -f` that is meant for another job matches its arguments.
# `1<>` opens without truncating. A subshell keeps each command's `exit`, `cd` and variables to itself. The script's
# variables have names that no job uses: a shell exports the new value of a variable that it had in its environment.
SCRIPT = """\
[ -z "$2" ] || echo 0 >"$2/cgroup.procs" || exit 1
cd "$3" || exit 1
[ -z "$4" ] || ulimit -S -n "$4"
trap '' TERM INT HUP QUIT USR1 USR2
read -r _riseml_start CUDA_VISIBLE_DEVICES || exit 0
_riseml_stopped=
trap _riseml_stopped=1 TERM INT HUP QUIT USR1 USR2
exec </dev/null
_riseml_exit=$1
shift 4
_riseml_code=0
for _riseml_command; do
  [ -z "$_riseml_stopped" ] || _riseml_code=143
  [ "$_riseml_code" = 0 ] || break
  (printf 'run\\n' 1<>"$_riseml_exit" || exit 1; set --; eval "$_riseml_command")
  _riseml_code=$?
done
read -r _riseml_start <"$_riseml_exit"
[ "$_riseml_start" = new ] || printf '%-3d\\n' "$_riseml_code" 1<>"$_riseml_exit"
"""


OUTLIVE = """\
while [ -n "$_riseml_stopped" ] && kill -0 -1 2>/dev/null; do sleep 0.1 || break; done
"""
"""What follows in a container, whose processes all end with the shell: a program asked to end may still save."""


def write_scripts(
    commands: Sequence[str], shell: Sequence[str], path: str, owner: Owner, seen_as: str = ""
) -> list[str]:
    """Each command as `SCRIPT` takes it; those with an interpreter get a file, `path` and a number.

    `seen_as` is what the job calls `path`, if not so. Raises `OSError`.
    """
    texts = []
    for number, command in enumerate(commands):
        text, content = script(command, shell, f"{seen_as or path}{number}")
        if content is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            with opened(f"{path}{number}", flags, 0o700) as fd:
                write_all(fd, os.fsencode(content))
                if owner.is_other:
                    give(fd, owner)
        texts.append(text)
    return texts


def exports(env: Mapping[str, str]) -> bytes:
    """`env` as lines for a shell to read, without the names that no shell variable can have."""
    lines = [
        f"export {name}={shlex.quote(value)}\n"
        for name, value in env.items()
        if _NAME.fullmatch(name)
    ]
    return os.fsencode("".join(lines))


def send_start_signal(fd: int, visible_gpus: str) -> None:
    """Write the line that `SCRIPT` waits for, with the job's CUDA_VISIBLE_DEVICES."""
    os.write(fd, f"start {visible_gpus}\n".encode())


def reset_exit_file(path: str, key: str, owner: Owner) -> None:
    """Make the exit file at `path` that of the job `key`, which has not begun. Raises `OSError`."""
    overwrite(path, b"new\n%s\n" % key.encode())
    if owner.is_other:
        with opened(path, os.O_RDWR | os.O_NOFOLLOW) as fd:
            give(fd, owner)


def read_exit_file(path: str, key: str, status: int | None, *, other_boot: bool) -> Exit:
    """How the job `key` ended: by its exit file or, where that has no code, by the `status` that its parent saw.

    Raises `OSError` where the machine lacks what reading takes: then the file may still tell.
    """
    try:
        with opened(path, READ_UNTRUSTED) as fd:
            text, _, rest = os.read(fd, 512).partition(b"\n")
    except OSError as error:
        if error.errno in _FOR_NOW:
            raise
        # The job has removed it, or made something else of it.
        return Exit(begun=True, code=None)
    if rest.partition(b"\n")[0] != key.encode():
        return Exit(begun=True, code=None)
    if text == b"new":
        # What the shell wrote after that may not have reached the disk before the power cut.
        return Exit(begun=other_boot, code=status)
    if text == b"run":
        # The shell itself was killed, for example because memory ran out. Only its parent knows by which signal.
        return Exit(begun=True, code=status if status else None)
    text = text.strip()
    known = text.isdigit() and int(text) <= 255  # a job can write here, too
    return Exit(begun=True, code=int(text) if known else None)


async def when_readable(read: Callable[[], Exit]) -> Exit:
    """The result of `read`, a call of `read_exit_file`, as soon as the machine has what reading takes."""
    while True:
        try:
            return read()
        except OSError as error:
            log.warning("cannot read an exit file, trying again", why=str(error))
            await trio.sleep(_AGAIN_SECONDS)
