"""Which shell runs a job's commands. Pure.

A text of `run` is bash's where bash is, with `-e -o pipefail`, otherwise sh's with `-e`: it fails with the first
command that fails, and with any part of a pipe. Its first line `#!…`, or `train.shell`, names another program. One
plain command, which means the same to every shell, saves the start of a second one.
"""

import os
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

_WORD = r"[\w./=:,@%+-]+"
_PLAIN = re.compile(
    rf"(?!exec\s+-)(?:[A-Za-z_]\w*=[\w./:,@%+-]* +)*(?P<program>{_WORD})"
    rf"(?: +(?:{_WORD}|'[^'\n]*'))*\s*",
    re.ASCII,
)
# What bash does itself, perhaps in another way than sh: a plain command that begins so is bash's.
_BUILTINS = """
alias bg bind break builtin caller case cd command compgen complete compopt continue coproc
declare dirs disown do done echo elif else enable esac eval export fc fg fi for function getopts
hash help history if in jobs kill let local logout mapfile popd printf pushd pwd read readarray
readonly return select set shift shopt source suspend test then time times trap type typeset
ulimit umask unalias unset until wait while .
"""
_OPTIONS = {
    **dict.fromkeys(("bash", "zsh", "ksh", "mksh"), ("-e", "-o", "pipefail")),
    **dict.fromkeys(("sh", "dash", "ash"), ("-e",)),
}
# Newer plain shells know pipefail, too.
_PIPEFAIL = "(set -o pipefail) 2>/dev/null && set -o pipefail; "
_NO_PIPEFAIL = (
    "rised: there is no bash, only a plain sh, which does not see that a part of a pipe fails;"
    " a first line #!… or train.shell names another shell"
)


class Script(NamedTuple):
    """A command as the shell that supervises the job evaluates it."""

    text: str
    file: str | None = None
    """What the file that `text` runs has to hold; None where it runs none."""


def needs_bash(command: str, shell: Sequence[str]) -> bool:
    """Whether `command` is bash's where bash is."""
    if shell or command.startswith("#!"):
        return False
    plain = _PLAIN.fullmatch(command)
    return not plain or plain["program"] in _BUILTINS.split()


def script(command: str, shell: Sequence[str], path: str) -> Script:
    """How `command` is run. `shell`: the words of `train.shell`, or none. `path`: where its file would be."""
    if command.startswith("#!"):
        interpreter, *argument = command[2:].partition("\n")[0].split(maxsplit=1) or ["/bin/sh"]
        words = [interpreter, *(word.strip() for word in argument), path]
        return Script(f"exec {shlex.join(words)}", command)
    if shell:
        name = os.path.basename(shell[0])
        options = _OPTIONS.get(name, ()) if len(shell) == 1 else ()
        return Script(f"exec {shlex.join([*shell, *options, '-c', command, name])}")
    if not needs_bash(command, shell):
        return Script(command)
    sh = _in_sh(command) if "|" in command else 'exec sh -e -c "$_riseml_text" sh'
    return Script(
        f"_riseml_text={shlex.quote(command)}\n"
        'if command -v bash >/dev/null; then exec bash -e -o pipefail -c "$_riseml_text" bash; fi\n'
        f"{sh}"
    )


def _in_sh(command: str) -> str:
    return (
        f"(set -o pipefail) 2>/dev/null || echo {shlex.quote(_NO_PIPEFAIL)}\n"
        f'exec sh -e -c {shlex.quote(_PIPEFAIL)}"$_riseml_text" sh'
    )
