"""Dispatch's end of the wire: stores what units say, confirms it, shows it. Never in a vehicle."""
