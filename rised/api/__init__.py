"""What the daemon answers to: one file per group of requests, joined in `routes.py`."""
