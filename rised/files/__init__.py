"""Files of users: listed, sent, taken in and removed with their rights, below a directory and never outside of it."""
