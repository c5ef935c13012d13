"""Users: who owns a job, and how files are used with a user's rights instead of the daemon's."""
