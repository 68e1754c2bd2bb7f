"""What dispatch keeps: one set of tables on SQLite or PostgreSQL."""
