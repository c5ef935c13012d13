"""The user at the other end of a connection over the loopback interface, by the kernel's own table."""

import socket


def peer_uid(table: str, client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The uid of the socket that connects `client` to `server`, in the text of /proc/net/tcp; None if there is none."""
    addresses = _hex(client), _hex(server)
    for line in table.splitlines()[1:]:
        fields = line.split()
        if (fields[1], fields[2]) == addresses:
            return int(fields[7])
    return None


def _hex(address: tuple[str, int]) -> str:
    """An address as the kernel writes it: `0100007F:1F90`."""
    packed = int.from_bytes(socket.inet_aton(address[0]), "little")
    return f"{packed:08X}:{address[1]:04X}"
