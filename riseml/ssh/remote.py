"""The command that ssh runs on the other machine: `riseml pipe`, or a few lines of Python.

The user's login shell reads it, whichever that is. So it is one `sh -c '…'` in which nothing stands
that any shell would touch within single quotes: no quote, backslash, exclamation mark or line break.
A path is encoded as in a URL. The Python is not among it: it is sent when that end asks for it.
"""

from urllib.parse import quote

from riseml.ssh import relay
from riseml_proto.places import SYSTEM_SOCKET

SEND = "send"
"""What the first line says where the program is to be sent, before another first line comes."""


def command(socket: str | None) -> str:
    """What to run there for the daemon at `socket`, or for the one that a local command would use."""
    host = f" --host unix://{quote(socket)}" if socket else ""
    mark = relay.MARK.decode()
    return (
        "sh -c '"
        # pip and pipx put it into a directory that a shell nobody types at often has not on PATH.
        'for riseml in riseml "$HOME/.local/bin/riseml"; do '
        f'if command -v "$riseml" >/dev/null; then exec "$riseml" pipe{host}; fi; done; '
        f"if command -v python3 >/dev/null; then echo {mark}{SEND}; "
        f'exec python3 -c "exec(eval(input()))" {quote(socket or SYSTEM_SOCKET)}; fi; '
        f"echo {mark}daemon neither riseml nor python3 is on PATH there; exit 2'"
    )


def program() -> bytes:
    """What to send: the text of `relay`, as one line that Python reads."""
    with open(relay.__file__, encoding="utf-8") as file:
        return ascii(file.read()).encode() + b"\n"
