"""Bringing a project's files to the daemon: the list of files, their git ids, and the upload."""
