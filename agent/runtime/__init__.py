"""What every part may use: a worker, the log, tricks of importing."""
