"""Which broker, and when."""
