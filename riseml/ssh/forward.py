"""Forwards ports of the other machine's 127.0.0.1 to this machine, over the connection that ssh keeps.

The port here is the same if it is free, otherwise the next of a fixed list that depends on the port alone: a second
request meets the first one's forwarding without a record of it, since ssh accepts the same forwarding twice.
"""

import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

from riseml.ssh.options import Call

_HOST = "127.0.0.1"
_TRIES = 20
_FIRST_PRIVATE, _PRIVATE = 49152, 16384  # the range of ports without registered services


def bring(call: Call, url: str) -> str | None:
    """The URL by which this machine reaches `url`; None where ssh keeps no connection open."""
    there = urlsplit(url)
    if not call.open or there.hostname != _HOST or there.port is None:
        return None
    for port in candidates(there.port):
        if _tell(call, "forward", port, there.port):
            return there._replace(netloc=f"{_HOST}:{port}").geturl()
    return None


def drop(call: Call, here: str, url: str) -> None:
    """Stop the forwarding of a `bring(url)` that returned `here`."""
    ports = urlsplit(here).port, urlsplit(url).port
    if call.open and ports[0] and ports[1]:
        _tell(call, "cancel", ports[0], ports[1])


def candidates(port: int) -> Iterator[int]:
    """The ports here that are tried for `port` there, in this order."""
    yield port
    for number in range(_TRIES):
        yield _FIRST_PRIVATE + (port + 619 * number) % _PRIVATE


def _tell(call: Call, action: str, here: int, there: int) -> bool:
    """Tell ssh to `forward` or `cancel` a port. False where it could not."""
    assert call.control
    # Without the user's configuration: it may contain forwardings of its own.
    kept = ["-F", "/dev/null", "-S", call.control.replace("%", "%%")]
    ports = f"{_HOST}:{here}:{_HOST}:{there}"
    done = subprocess.run(
        ["ssh", *kept, "-O", action, "-L", ports, "--", call.argv[-1]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
