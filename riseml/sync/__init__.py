"""Takes a project's files to the daemon: which these are, their ids, and what has to travel."""
