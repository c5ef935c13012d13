"""A daemon on another machine, reached by the `ssh` command with the user's own configuration.

options.py   how ssh is called: the user's configuration, and the connection that ssh keeps open
remote.py    the command that ssh runs on the other machine
relay.py     what that command does: it connects stdin and stdout with the daemon's socket
session.py   one run of ssh: a connection to the daemon, or the error that says why there is none
host.py      the other machine as an `Endpoint`
forward.py   ports of the other machine that are forwarded to this one
"""
