"""A job's output: the log file that the job writes itself, watched, stamped and read here."""
