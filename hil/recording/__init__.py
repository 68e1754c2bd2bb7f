"""Recordings: what the agent's drivers read, in MCAP files, and how to make, read and describe them."""
