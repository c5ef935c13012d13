"""The handlers of the daemon's API: one file for each group of requests. `routes.py` has the table of all."""
