"""What to try next, and what was best."""
