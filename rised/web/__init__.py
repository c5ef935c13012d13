"""HTTP/1.1 on a Unix socket: h11 for the protocol, trio for the rest."""
