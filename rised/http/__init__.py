"""HTTP/1.1 over the daemon's socket: connections, requests, and how many there may be."""
