"""The command `rised`: flags, and errors as people should see them."""

import os
import sys

from riseml_proto.module_path import own_module_path

if (
    __name__ == "__main__" or os.path.basename(sys.argv[0]) == "rised"
):  # not where a test imports it
    _home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = own_module_path(sys.path, _home, sys.prefix, sys.version_info[:2])
    if sys.warnoptions:  # of PYTHONWARNINGS, which may make errors of them
        import warnings

        warnings.simplefilter("ignore")

import argparse
import contextlib
import fcntl
import signal
import sqlite3
from collections.abc import Mapping
from typing import Any, NoReturn

from rised import daemon, locks, log
from rised.settings import TABLE, load
from riseml_proto import VERSION
from riseml_proto.errors import AlreadyRunning, DaemonError, InvalidInput, RisemlError, describe

_DESCRIPTION = """\
The daemon behind riseml: takes experiments, gives each its GPUs, runs them,
keeps their logs and outputs. On your own machine riseml starts it by itself;
nothing here has to be typed."""

_EPILOG = """\
A setting is also a key of the configuration file, ~/.config/rised/config.yml,
with --system of /etc/rised/config.yml:
  gpus: 4
  output-dir: /data/experiments
A flag wins over the file. SIGTERM, or rised --stop, stops the daemon; jobs run
on, and the next rised takes them back."""
_STDERR = 2
_ANOTHER = "name another --state-dir, or state-dir in config.yml"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like every other error, and whose help has no backticks: they are for Markdown."""

    def format_help(self) -> str:
        return super().format_help().replace("`", "")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse's own hides that it cannot be written

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message}; rised --help tells what it takes")


def parser() -> argparse.ArgumentParser:
    """The command line: what to do, and a flag for each setting."""
    command = _Parser(
        "rised", description=_DESCRIPTION, epilog=_EPILOG, usage="rised [FLAG ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    add = command.add_argument
    add("--config", metavar="FILE", help="read this configuration file and no other")
    add("--ready-fd", metavar="N", type=int, help="write a line here when requests are served")
    add("--log-file", metavar="FILE",
        help="write the log here, not to standard error; what is full (5 MB) becomes FILE.1")  # fmt: skip
    add("--stop", action="store_true", help="stop the daemon that uses this state directory")
    add("--version", action="version", version=f"rised {VERSION}", help="show the version and exit")
    group = command.add_argument_group("settings")
    for key, setting in TABLE.items():
        text = f"{setting.help} ({setting.default})"
        if setting.type is bool:
            group.add_argument(f"--{key}", action="store_true", default=None, help=text)
        elif setting.metavar:
            group.add_argument(f"--{key}", metavar=setting.metavar, help=text)
    return command


def main() -> None:
    """Run the daemon, or stop one. Exit code 2 for bad input, 3 where another daemon is in the way."""
    # One that is closed would be given to the next file that is opened, and the log be written into that.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(fd)
    terminal = None
    try:
        given = {k: v for k, v in vars(_parse()).items() if v is not None}
        file, ready_fd, log_file, stop = (
            given.pop(key, None) for key in ("config", "ready_fd", "log_file", "stop")
        )
        flags = {key.replace("_", "-"): value for key, value in given.items()}
        if stop:
            _stop(file, flags)
            return
        settings = load(file, flags, os.environ)
        if ready_fd is not None:
            ready_fd = _writable(ready_fd)
        terminal = os.dup(_STDERR) if log_file else None
        log.start(log_file)

        def ready() -> None:
            if terminal is not None:
                os.dup2(_STDERR, terminal, inheritable=False)
            if ready_fd is not None:
                with contextlib.suppress(OSError):  # who waited for it has gone
                    os.write(ready_fd, b"ready\n")
                os.close(ready_fd)

        daemon.main(settings, ready)
    except KeyboardInterrupt:  # while it waits for another one's end
        sys.exit(128 + signal.SIGINT)
    except AlreadyRunning as error:
        sys.exit(_say(error, 3, terminal))
    except RisemlError as error:
        sys.exit(_say(error, 2, terminal))
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # none where Python itself raised it
        full = code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        way_out = "free some of the disk" if full else "move it away"
        text = f"{settings.state_dir}/rised.db: {error}; {way_out}, or {_ANOTHER}"
        sys.exit(_say(DaemonError(text), 2, terminal))
    except OSError as error:
        text = f"{describe(error, settings.state_dir)}; {_ANOTHER}"
        sys.exit(_say(DaemonError(text), 2, terminal))


def _parse() -> argparse.Namespace:
    """What was typed. Raises `SystemExit` after the help, and `InvalidInput`, also where that cannot be printed."""
    try:
        try:
            return parser().parse_args()
        finally:
            if sys.stdout:  # none where it was closed
                sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InvalidInput(f"cannot write to stdout: {error.strerror}") from None


def _stop(file: str | None, flags: Mapping[str, object]) -> None:
    """Stop the daemon that a `rised` with these flags would be. That none runs is as good, and said."""
    unread: list[str] = []
    settings = load(file, flags, os.environ, for_stop=unread)
    if locks.stop_holder(settings):
        return
    text = f"no rised uses {settings.state_dir}"
    if unread:
        text += f", and the configuration cannot name another directory: {unread[0]}"
        raise InvalidInput(f"{text}; name it with --state-dir")
    print(f"rised: {text}; nothing to stop", file=sys.stderr)


def _writable(fd: int) -> int:
    """The descriptor, or a copy of a standard stream, which stays open. Raises `InvalidInput` for a wrong one."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise InvalidInput(f"--ready-fd: {fd} is not open for writing")
        return fd if fd > _STDERR else os.dup(fd)
    except (OSError, OverflowError, ValueError):  # -1
        raise InvalidInput(f"--ready-fd: {fd} is not an open file descriptor") from None


def _say(error: RisemlError, code: int, terminal: int | None) -> int:
    """Say it where the log goes, and on the `terminal` of whoever gave a log file; return the exit code."""
    line = f"rised: {error}\n"
    with contextlib.suppress(OSError):  # there is nobody to tell
        print(line, end="", file=sys.stderr)
    if terminal is not None and not os.path.samestat(os.fstat(terminal), os.fstat(_STDERR)):
        os.write(terminal, line.encode(errors="backslashreplace"))
    return code


if __name__ == "__main__":
    main()
