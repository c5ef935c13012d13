"""The command `rised`: flags, and errors as people should see them."""

import argparse
import contextlib
import os
import signal
import sqlite3
import sys

from rised import daemon, settings
from rised.runners.processes import pidfd
from rised.web.socket import AlreadyRunning, locked
from riseml_proto import VERSION
from riseml_proto.errors import DaemonError, RisemlError

_DESCRIPTION = """\
The daemon behind riseml: takes experiments, gives each its GPUs, runs them, keeps their logs and outputs.
On your own machine riseml starts it by itself; nothing here has to be typed."""

_EPILOG = """\
Every flag but the last three is also a key of ~/.config/rised/config.yml (or /etc/rised/config.yml), as in
  gpus: 4
  output-dir: /data/experiments
SIGTERM stops the daemon; jobs run on, and the next rised takes them back."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "rised", description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    add = made.add_argument
    add("--config", metavar="FILE", help="read this configuration file")
    add("--socket", metavar="PATH", help="listen here")
    add("--state-dir", metavar="DIR", help="database, logs, revisions (~/.local/state/rised)")
    add("--output-dir", metavar="DIR", help="what experiments write (~/riseml/output)")
    add("--data-dir", metavar="DIR", help="what experiments read (~/riseml/data)")
    add("--gpus", metavar="auto|N|0,2,3", help="ask the driver, or declare GPUs without asking it")
    add("--cpus", metavar="N", type=float, help="CPUs to hand out (all there are)")
    add("--mem", metavar="MIB", type=int, help="memory to hand out, in MiB (all there is)")
    add("--runner", choices=("auto", "process"),
        help="auto: an experiment with an image is refused; process: the image is ignored")  # fmt: skip
    add("--kill-grace", metavar="SECONDS", type=float, help="from SIGTERM to SIGKILL (10)")
    add("--max-files", metavar="N", type=int, help="most files in a project (100000)")
    add("--max-bytes", metavar="N", type=int, help="most bytes in a project (2147483648)")
    add(
        "--min-free",
        metavar="MIB",
        type=int,
        help="free disk below which nothing new is taken (64)",
    )
    add("--ready-fd", metavar="N", type=int, help="write a line here when requests are served")
    add("--stop", action="store_true", help="stop the daemon that uses this state directory")
    add("--version", action="version", version=f"rised {VERSION}")
    return made


def main() -> None:
    """Run the daemon, or stop one. Exit code 2 for bad input, 3 where another daemon is in the way."""
    given = {k: v for k, v in vars(parser().parse_args()).items() if v is not None}
    config, ready_fd, stop = (given.pop(key, None) for key in ("config", "ready_fd", "stop"))
    flags = {key.replace("_", "-"): value for key, value in given.items()}
    try:
        chosen = settings.load(config, flags, os.environ)
        if stop:
            _stop(chosen)
            return

        def ready() -> None:
            if ready_fd is not None:
                os.write(ready_fd, b"ready\n")
                os.close(ready_fd)

        daemon.main(chosen, ready)
    except AlreadyRunning as error:
        sys.exit(_say(error, 3))
    except RisemlError as error:
        sys.exit(_say(error, 2))
    except sqlite3.DatabaseError as error:
        text = f"{chosen.state_dir}/rised.db: {error}; move it away, or name another --state-dir"
        sys.exit(_say(DaemonError(text), 2))


def _say(error: RisemlError, code: int) -> int:
    print(f"rised: {error}", file=sys.stderr)
    return code


def _stop(chosen: settings.Settings) -> None:
    """Ask the daemon to stop and wait until it has. Raises `DaemonError` where none runs."""
    path = os.path.join(chosen.state_dir, "lock")
    with contextlib.suppress(FileNotFoundError):
        try:
            with locked(path, chosen.state_dir):
                pass
        except AlreadyRunning:
            with open(path, encoding="ascii") as file:
                pid = int(file.read())
            with pidfd(pid) as fd:
                if fd is not None:
                    signal.pidfd_send_signal(fd, signal.SIGTERM)
                    _wait(fd)
            return
    raise DaemonError(f"no rised uses {chosen.state_dir}")


def _wait(fd: int) -> None:
    import select

    select.select([fd], [], [])


if __name__ == "__main__":
    main()
