"""The process rig: the real daemon on PTYs, with a real broker behind a network that can be cut."""
