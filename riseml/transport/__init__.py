"""The way to a daemon: its address, the socket of this machine or of another, and HTTP over it.

address.py    what --host, RISEML_HOST and config.yml take
daemon.py     which daemon a command means, and how the user's own one is started
endpoint.py   what every way to a daemon offers: `Endpoint`
unix.py       the `Endpoint` of a socket on this machine; `riseml.ssh` has that of another machine
http.py       the client that speaks HTTP over an `Endpoint`'s connection
"""
