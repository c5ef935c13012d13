"""Servers on the other machine's 127.0.0.1 that are to be reached from here, by the kept connection.

The port is the same here if it is free, else another one, always the same for the same: so asking
again for what is forwarded already finds that, and nobody has to keep a list. ssh itself says
whether a port is free, and takes the same forwarding twice as one.
"""

import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

from riseml.ssh.options import Call

_HOST = "127.0.0.1"
_TRIES = 20
_FIRST_PRIVATE, _PRIVATE = 49152, 16384  # the ports that nothing is registered for


def bring(call: Call, url: str) -> str | None:
    """The URL under which this machine reaches `url`; None where no connection is kept open."""
    there = urlsplit(url)
    if not call.open or there.hostname != _HOST or there.port is None:
        return None
    for port in candidates(there.port):
        if _tell(call, "forward", port, there.port):
            return there._replace(netloc=f"{_HOST}:{port}").geturl()
    return None


def drop(call: Call, here: str, url: str) -> None:
    """Undo a `bring(url)` that gave `here`."""
    ports = urlsplit(here).port, urlsplit(url).port
    if call.open and ports[0] and ports[1]:
        _tell(call, "cancel", ports[0], ports[1])


def candidates(port: int) -> Iterator[int]:
    """The ports here that may stand for `port` there, in the order in which they are tried."""
    yield port
    for number in range(_TRIES):
        yield _FIRST_PRIVATE + (port + 619 * number) % _PRIVATE


def _tell(call: Call, action: str, here: int, there: int) -> bool:
    """Whether the kept connection could do it."""
    assert call.control
    # Without the user's configuration: forwardings of their own would be asked for, too.
    kept = ["-F", "/dev/null", "-S", call.control.replace("%", "%%")]
    ports = f"{_HOST}:{here}:{_HOST}:{there}"
    done = subprocess.run(
        ["ssh", *kept, "-O", action, "-L", ports, "--", call.argv[-1]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
