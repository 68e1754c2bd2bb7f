"""Scripts that drive peers; each runs in the peer's own environment and imports nothing of the project."""
