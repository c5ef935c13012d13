"""A job's output: its log, watched, stamped and read here."""
