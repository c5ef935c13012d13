"""Whose a job is, and how files are touched with a user's rights instead of the daemon's."""
