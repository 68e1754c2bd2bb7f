"""Durable store-and-forward. sqlite3 is known here and nowhere else."""
