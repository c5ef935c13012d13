"""What an experiment is, and the one place that writes down how it changes."""
