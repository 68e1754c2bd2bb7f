"""The composition root: daemon, table of devices, platforms."""
