"""Jobs: the queue, the supervision of one child process per job, and the SQLite store."""
