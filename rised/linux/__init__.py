"""The kernel's ways: processes, control groups, files and what systemd says."""
