"""The command that ssh runs on the other machine: `riseml pipe`, or Python with the text of `relay`.

The user's login shell reads it, and that can be any shell. So it is one `sh -c '…'` without characters that some
shell changes within single quotes, and a path is encoded as in a URL. `relay` is sent when it is asked for.
"""

from urllib.parse import quote

from riseml.ssh import relay
from riseml_proto.default_socket import SYSTEM_SOCKET

NO_COMMAND, NO_DAEMON, NO_PYTHON = "no-command", "no-daemon", "no-python"
"""What a first line can say beside the codes of errors: something that only a setting here helps against."""
SEND = "send"
"""The first line of a machine without riseml: it asks for the program, and then sends a first line."""


def command(socket: str | None, riseml: str | None = None) -> str:
    """The command for the daemon at `socket`, or for the one that a command typed there would use.

    `riseml` is what the user has said that riseml is called there, a few words for a shell.
    """
    host = f" --host unix://{quote(socket)}" if socket else ""
    mark = relay.MARK.decode()
    if riseml:
        program = riseml.split(" ")[0]  # to some shells each file that is there is a command
        return (
            f'sh -c \'found=$(command -v {program}); if [ -x "$found" ]; then [ -d "$found" ] || '
            f"exec {riseml} pipe{host}; fi; echo {mark}{NO_COMMAND}; exit 2'"
        )
    return (
        "sh -c '"
        # pip and pipx install into a directory that is often not on the PATH of such a shell.
        'for riseml in riseml "$HOME/.local/bin/riseml"; do '
        f'if command -v "$riseml" >/dev/null; then exec "$riseml" pipe{host}; fi; done; '
        f"if command -v python3 >/dev/null; then echo {mark}{SEND}; exec python3 -c "
        f'"exec(eval(input()))" {SYSTEM_SOCKET}{f" {quote(socket)}" if socket else ""}; fi; '
        f"echo {mark}{NO_PYTHON} neither riseml nor python3 is on PATH there; exit 2'"
    )


def program() -> bytes:
    """The text of `relay`, as one line that Python evaluates."""
    with open(relay.__file__, encoding="utf-8") as file:
        return ascii(file.read()).encode() + b"\n"
