"""Whose a connection over the loopback interface is, by the kernel's own table."""

import socket


def peer_uid(table: str, client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The user whose socket is connected from `client` to `server`, by /proc/net/tcp's text; None if there is none."""
    wanted = _entry(client), _entry(server)
    for line in table.splitlines()[1:]:
        fields = line.split()
        if (fields[1], fields[2]) == wanted:
            return int(fields[7])
    return None


def _entry(address: tuple[str, int]) -> str:
    packed = int.from_bytes(socket.inet_aton(address[0]), "little")
    return f"{packed:08X}:{address[1]:04X}"
