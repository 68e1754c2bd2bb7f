"""Scenarios: a drive, the faults that hit it, and what dispatch must have in the end."""
