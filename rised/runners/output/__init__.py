"""A job's output on its way to the log: a FIFO that the job writes to, and a process that outlives the daemon."""
