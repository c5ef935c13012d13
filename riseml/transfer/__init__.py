"""Copying files between this machine and the places of the daemon; what was cut off is gone on with."""
