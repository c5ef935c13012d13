"""A daemon on another machine, by nothing but the `ssh` command and its user's own configuration.

options.py   how ssh is called: what the user's configuration says, and the kept connection
remote.py    the command that runs on the other machine
session.py   one call of ssh: a connection to the daemon, or the reason why there is none
host.py      the machine as an `Endpoint`
forward.py   ports of it that are to be reached from here
"""
