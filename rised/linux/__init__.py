"""Linux: processes, control groups, files, and the protocol of systemd. Nothing here knows a job or a user."""
