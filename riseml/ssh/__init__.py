"""A daemon on another machine, reached by the `ssh` command with the user's own configuration."""
