"""Which parameters to try next, and which sub-experiment was the best."""
