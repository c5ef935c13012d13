"""Connect stdin and stdout to this machine's daemon, which is started if need be; for use by ssh."""

import argparse

from riseml import pump
from riseml.daemon import open_here
from riseml.endpoint import Unreachable
from riseml_proto.errors import RisemlError


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes nothing but --host."""


def run(args: argparse.Namespace) -> int:
    """Carry bytes until the daemon hangs up; 2 where there is none, and the first line says why."""
    try:
        connection = open_here(args.host)
    except RisemlError as error:
        kind = "unreachable" if isinstance(error, Unreachable) else error.code
        pump.say(f"{kind} {error}")
        return 2
    pump.say("ready")
    pump.pump(connection)
    return 0
