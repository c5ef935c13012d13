"""rised."""
