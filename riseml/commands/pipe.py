"""Connect stdin and stdout to this machine's daemon, which is started if need be; for use by ssh."""

import argparse

from riseml.ssh import relay
from riseml.transport.daemon import open_here
from riseml_proto.errors import RisemlError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `--host` is enough."""


def run(args: argparse.Namespace) -> int:
    """Carry bytes until the daemon closes the connection. Without a daemon the first line says why."""
    try:
        connection = open_here(args.host)
    except RisemlError as error:
        relay.say(f"{error.code} {error}")
        return 2
    relay.say("ready")
    relay.carry(connection)
    return 0
