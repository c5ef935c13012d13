"""The way to a daemon: its address, the socket of this machine or of another, and HTTP over it."""
