"""The `riseml` command: find out which command was typed, import only that one, run it.

Exit codes: 0 for success; 2 for a `RisemlError`, whose text is printed after `riseml: `; 130 for
Ctrl+C; 141 where nobody reads the output any more. A command may have others of its own. No user
ever sees a traceback.
"""

# Until `main` can catch it, Ctrl+C ends the process at once, without a traceback from an import.
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)

# ruff: noqa: E402
import contextlib
import os
import sys

from riseml_proto.module_path import own_module_path

if (
    __name__ == "__main__" or os.path.basename(sys.argv[0]) == "riseml"
):  # not where a test imports it
    _home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = own_module_path(sys.path, _home, sys.prefix, sys.version_info[:2])
    if sys.warnoptions:  # of PYTHONWARNINGS, which may make errors of them
        import warnings

        warnings.simplefilter("ignore")

from collections.abc import Sequence
from typing import NoReturn, TextIO

from riseml.commands import COMMANDS, HIDDEN
from riseml.parsing import build
from riseml_proto import VERSION
from riseml_proto.errors import InvalidInput, RisemlError, describe

_EXAMPLE = """\
In a directory with your code:
  riseml init            writes riseml.yml; edit its run and parameters
  riseml train           runs every combination, Ctrl+C detaches
  riseml status 144      shows how far number 144 is
  riseml logs -f 144.2   follows its second sub-experiment

riseml COMMAND --help tells all about a command, riseml COMMAND -h its options."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `riseml` with `argv` (default: what was typed) and exit."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a job may print what the terminal's encoding cannot
            stream.reconfigure(errors="backslashreplace")
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = _run(sys.argv[1:] if argv is None else list(argv))
    except SystemExit as stop:  # argparse has shown its help
        code = stop.code if isinstance(stop.code, int) else 0
    except RisemlError as error:
        code = _complain(str(error), 2)
    except KeyboardInterrupt:
        code = _complain("", 130)
    except BrokenPipeError:
        code = 141
    except OSError as error:
        code = 0 if _is_full(sys.stdout) else _complain(describe(error), 2)
    _leave(code)


def _is_full(stream: TextIO) -> bool:
    """Whether what was printed cannot be written."""
    try:
        stream.flush()
    except BrokenPipeError:
        return False
    except OSError:
        return True
    return False


def _leave(code: int) -> NoReturn:
    """End with `code`. What a stream still holds that cannot be written is dropped, or Python would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError) and not code:
                code = _complain(f"cannot write to stdout: {error.strerror}", 2)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open /dev/null as stdin, stdout or stderr where that is closed, or a socket would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _complain(text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # there is nobody to tell
        if text:
            print(f"riseml: {text}", file=sys.stderr)
        elif sys.stderr.isatty():
            print(file=sys.stderr)  # after the terminal's ^C
    return code


def _run(argv: list[str]) -> int:
    host = None
    while argv and argv[0].startswith("-"):  # options before the command
        option, *argv = argv
        name, given, value = option.partition("=")
        if name == "--host" and (given or argv):
            host, argv = (value, argv) if given else (argv[0], argv[1:])
        elif option in ("-V", "--version"):
            print(f"riseml {VERSION}")
            return 0
        elif option in ("-h", "--help"):
            argv = ["help"]
        else:
            raise InvalidInput(f"{option} cannot stand here; riseml --help tells what can")
    if argv in ([], ["help"]):
        print(_help())
        return 0 if argv else 2
    if argv[0] == "help":
        argv = [argv[1], "--help"]
    return _command(argv[0], argv[1:], host)


def _command(name: str, argv: list[str], host: str | None) -> int:
    known = [command.name for command in COMMANDS]
    if name not in known and name not in HIDDEN:
        raise InvalidInput(f"there is no command {name!r}{_suggestion(name, known)}")
    parser, run = build(name)
    parser.set_defaults(host=host)
    if "--help" not in argv and parser.epilog:
        parser.epilog = f"{parser.prog} --help tells more."  # for -h
    code: int = run(parser.parse_args(argv))
    return code


ELSEWHERE = {
    **dict.fromkeys(
        ("ps", "list", "jobs", "show", "describe", "info", "squeue", "gstat"), "status"
    ),
    **dict.fromkeys(("stop", "cancel", "delete", "abort", "scancel", "terminate"), "kill"),
    **dict.fromkeys(("top", "usage", "htop", "watch"), "monitor"),
    **dict.fromkeys(("rerun", "retry", "run", "submit", "start", "sweep", "sbatch"), "train"),
    **dict.fromkeys(("log", "tail", "output", "attach", "follow"), "logs"),
    **dict.fromkeys(("download", "upload", "get", "put", "pull", "fetch"), "cp"),
    **dict.fromkeys(("hold", "suspend"), "pause"),
    **dict.fromkeys(("release", "continue"), "resume"),
    **dict.fromkeys(("priority", "renice", "update", "modify"), "set"),
    **dict.fromkeys(("gpus", "nvidia-smi", "drain", "sinfo", "prune"), "system"),
    **dict.fromkeys(("user", "login", "who"), "whoami"),
}
"""What other tools call it → our command."""


def _suggestion(name: str, known: list[str]) -> str:
    if name.lower() in ELSEWHERE:
        return f"; riseml has {ELSEWHERE[name.lower()]} for that: riseml {ELSEWHERE[name.lower()]} --help"
    import difflib  # takes 5 ms, and only a typing error needs it

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean riseml {near[0]}?" if near else "; riseml --help lists them"


def _help() -> str:
    lines = [
        "usage: riseml [--host URL] COMMAND ...",
        "",
        "Runs hyperparameter experiments on a GPU box: one riseml.yml, one command.",
        "",
        *(f"  {command.name:<11} {command.summary}" for command in COMMANDS),
        "",
        "  --host URL   the daemon: ssh://[user@]host[:port] or unix:///path/of/socket",
        "               (default: $RISEML_HOST, or config.yml's host, or this machine's)",
        "  --version    show the version and exit",
        "",
        _EXAMPLE,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
