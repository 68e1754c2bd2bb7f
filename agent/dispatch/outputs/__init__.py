"""Feeds to others: one file each, off by default."""
